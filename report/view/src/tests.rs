//! The core, its readers and its picture on traces that are made here.

mod made;
mod walks;

use crate::app::{App, View};
use crate::message::{Key, Message};
use crate::side::Told;
use crate::work::{Note, Runner};
use crate::{Begun, Options, Shown, begin};
use ctrace_format::Trace;
use ctrace_report::text::when::Zone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

/// The core with its readers, and a terminal that is none.
struct Stage {
    app: App,
    runner: Runner,
    told: Receiver<Note>,
    screen: Terminal<TestBackend>,
}

impl Stage {
    fn new(traces: Vec<Trace>, size: (u16, u16)) -> Self {
        Self::with(traces, size, "")
    }

    fn with(traces: Vec<Trace>, size: (u16, u16), filter: &str) -> Self {
        let names = ["first.ctr", "second.ctr"];
        let shown = traces.into_iter().zip(names).map(|(trace, name)| Shown {
            path: PathBuf::from(name),
            trace: Arc::new(trace),
            account: None,
        });
        let options = Options {
            view: if filter.is_empty() { View::Findings } else { View::Events },
            filter: filter.into(),
            zone: Zone::UTC,
            colours: false,
            mouse: false,
        };
        let Begun { app, effects, traces } = begin(shown.collect(), &options, size).unwrap();
        let (notes, told) = channel();
        let runner = Runner::new(&traces, &app, Zone::UTC, notes);
        runner.run_all(effects);
        let screen = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
        let mut stage = Self { app, runner, told, screen };
        stage.settle();
        stage
    }

    fn tell(&mut self, message: Message) {
        self.runner.run_all(self.app.update(message));
    }

    /// Waits until nothing is being read any more.
    fn settle(&mut self) {
        let is_quiet = |app: &App| {
            let height = app.list_height();
            app.sides.iter().all(|side| {
                side.pages.is_done()
                    && (side.is_listed() || side.list.refused.is_some())
                    && side.jump.is_none()
                    && !matches!(side.told, Told::Working)
                    && side.visible(height).iter().all(|ordinal| side.rows.contains_key(ordinal))
                    && side.fine.as_ref().is_none_or(|fine| fine.bins.len() > 1)
            })
        };
        loop {
            while let Ok(note) = self.told.try_recv() {
                self.take(note);
            }
            if is_quiet(&self.app) {
                return;
            }
            let note = self.told.recv().unwrap();
            self.take(note);
        }
    }

    fn take(&mut self, note: Note) {
        match note {
            Note::Message(message) => self.tell(message),
            other => panic!("{other:?}"),
        }
    }

    fn key(&mut self, key: Key) {
        self.tell(Message::Key(key));
        self.settle();
    }

    /// Types letters.
    fn type_(&mut self, letters: &str) {
        letters.chars().for_each(|letter| self.key(Key::Char(letter)));
    }

    fn screen(&mut self) -> Vec<String> {
        let app = &self.app;
        self.screen.draw(|frame| app.render(frame.buffer_mut())).unwrap();
        crate::once::text(self.screen.backend().buffer())
    }

    /// The line of the screen on which the cursor is, by its looks.
    fn chosen(&mut self) -> String {
        let _ = self.screen();
        let buffer = self.screen.backend().buffer();
        let is_reversed = |y: u16| {
            let cell = &buffer[(buffer.area.width / 2, y)];
            cell.modifier.contains(ratatui::style::Modifier::REVERSED)
        };
        // The last lines are the status.
        let row = (1..buffer.area.height - 2).find(|y| is_reversed(*y));
        row.map(|y| crate::once::text(buffer)[usize::from(y)].clone()).unwrap_or_default()
    }

    fn status(&mut self) -> String {
        let screen = self.screen();
        screen[screen.len() - 2].clone()
    }

    fn last(&mut self) -> String {
        self.screen().pop().unwrap_or_default()
    }
}
