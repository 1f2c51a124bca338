//! The first screen as text, for scripts and tests.

use crate::work::{Note, Runner};
use crate::{Begun, Options, Shown, begin};
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use std::sync::mpsc::channel;

/// The first screen of so many columns and lines, line by line, when nothing more comes onto it.
///
/// # Errors
/// A sentence when the filter makes no sense, or a bug ended a thread.
pub fn once(
    shown: Vec<Shown>,
    options: &Options,
    (columns, lines): (u16, u16),
) -> Result<Vec<String>, String> {
    let Begun { mut app, effects, traces } = begin(shown, options, (columns, lines))?;
    let (notes, told) = channel();
    let runner = Runner::new(&traces, &app, options.zone, notes);
    runner.run_all(effects);
    while !app.is_settled() {
        match told.recv() {
            Ok(Note::Message(message)) => {
                runner.run_all(app.update(message));
            }
            Ok(Note::Broken(why)) => return Err(why),
            Ok(_) => {}
            Err(_) => return Err("nobody reads the trace any more".into()),
        }
    }
    if let Some(why) = app.sides.iter().find_map(|side| side.list.refused.clone()) {
        return Err(why);
    }
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, lines));
    app.is_still = true;
    app.render(&mut buffer);
    Ok(text(&buffer))
}

/// The lines of a picture, without blanks at their ends.
pub(crate) fn text(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width.max(1));
    let line = |cells: &[Cell]| {
        let mut line = String::new();
        let mut behind_wide = 0;
        for cell in cells {
            // A wide character takes the cells behind it.
            if behind_wide > 0 {
                behind_wide -= 1;
                continue;
            }
            line.push_str(cell.symbol());
            behind_wide = unicode_width::UnicodeWidthStr::width(cell.symbol()).saturating_sub(1);
        }
        line.trim_end().to_owned()
    };
    buffer.content.chunks(width).map(line).collect()
}
