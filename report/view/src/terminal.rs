//! The terminal: taken when the first screen is shown, and given back however this ends: a key, a signal, an error, a panic.

use crate::app::App;
use crate::message::{Effect, Key, Message};
use crate::work::{Note, Runner};
use crate::{Begun, Options, Shown, begin};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{
    self, DisableMouseCapture, EnableMouseCapture, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
    MouseButton, MouseEventKind,
};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
    size as terminal_size,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Why nothing can be shown any more.
#[derive(Debug)]
pub enum ShowError {
    /// The terminal refused, or went away.
    Terminal(io::Error),
    /// The filter makes no sense: a sentence.
    Filter(String),
    /// A bug.
    Broken(String),
}

/// How somebody left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// By a key.
    Quit,
    /// By a signal of this number.
    Signal(i32),
}

/// What a terminal of this name (`TERM`) lacks; `None`: nothing.
pub fn lacks(term: Option<&OsStr>) -> Option<String> {
    let name = term.unwrap_or_default();
    if name.is_empty() {
        return Some("TERM is not set, so nobody knows what this terminal can do".into());
    }
    (name == "dumb").then(|| "this terminal (TERM=dumb) cannot place its cursor".into())
}

/// Columns and lines of the terminal, if there is one.
pub fn size() -> Option<(u16, u16)> {
    terminal_size().ok().filter(|(columns, lines)| *columns > 0 && *lines > 0)
}

type Screen = Terminal<CrosstermBackend<BufWriter<File>>>;

/// The terminal's output, by a descriptor of its own: the standard output may be locked by somebody else.
fn output() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

fn enter(mouse: bool) -> io::Result<Screen> {
    enable_raw_mode()?;
    let mut out = output()?;
    execute!(out, EnterAlternateScreen, Clear(ClearType::All))?;
    if mouse {
        execute!(out, EnableMouseCapture)?;
    }
    // The terminal must not be asked anything (`Terminal::clear` asks where the cursor is): the thread that reads keys would
    // get the answer.
    Terminal::new(CrosstermBackend::new(BufWriter::new(out)))
}

/// Gives the terminal back, as far as that is possible.
fn leave() {
    if let Ok(mut out) = output() {
        let _ = execute!(out, DisableMouseCapture, LeaveAlternateScreen, Show);
        let _ = out.flush();
    }
    let _ = disable_raw_mode();
}

/// Gives the terminal back when it goes.
struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
        leave();
    }
}

/// Signals that a thread waits for.
fn signals() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGTSTP] {
        set.add(signal);
    }
    set
}

/// Shows traces until somebody leaves. Blocks signals: it is for the main thread, before there are others.
///
/// # Errors
/// When the terminal refuses or goes away, or the filter makes no sense.
pub fn show(shown: Vec<Shown>, options: &Options) -> Result<Stopped, ShowError> {
    let terminal = ShowError::Terminal;
    let first = terminal_size().map_err(terminal)?;
    let Begun { mut app, effects, traces } = begin(shown, options, first).map_err(ShowError::Filter)?;
    signals().thread_block().map_err(|e| terminal(e.into()))?;
    let (notes, told) = channel();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        leave();
        before(info);
    }));
    let _taken = Taken;
    let mut screen = enter(options.mouse).map_err(terminal)?;
    let runner = Runner::new(&traces, &app, options.zone, notes.clone());
    runner.run_all(effects);
    listen(&notes).map_err(terminal)?;
    run(&mut app, &mut screen, &runner, &told, options.mouse)
}

/// Threads that wait for keys and for signals.
fn listen(notes: &Sender<Note>) -> io::Result<()> {
    let (keys, caught) = (notes.clone(), notes.clone());
    thread::Builder::new().name("ctrace-keys".into()).spawn(move || {
        loop {
            let event = match event::read() {
                Ok(event) => event,
                Err(error) => {
                    let _ = keys.send(Note::NoTerminal(error));
                    break;
                }
            };
            if messages(&event).into_iter().any(|message| keys.send(Note::Message(message)).is_err()) {
                break;
            }
        }
    })?;
    thread::Builder::new().name("ctrace-signals".into()).spawn(move || {
        while let Ok(signal) = signals().wait() {
            if caught.send(Note::Signal(signal)).is_err() {
                break;
            }
        }
    })?;
    Ok(())
}

fn run(
    app: &mut App,
    screen: &mut Screen,
    runner: &Runner,
    told: &Receiver<Note>,
    mouse: bool,
) -> Result<Stopped, ShowError> {
    loop {
        draw(app, screen, runner).map_err(ShowError::Terminal)?;
        // Nobody sends any more: the threads that do hold a sender for as long as they live.
        let Ok(note) = told.recv() else { return Err(ShowError::Broken("all threads ended".into())) };
        for note in std::iter::once(note).chain(told.try_iter()) {
            let suspended = match note {
                Note::Message(message) => {
                    let mut suspended = false;
                    for effect in app.update(message) {
                        suspended |= matches!(effect, Effect::Suspend);
                        runner.run(effect);
                    }
                    suspended
                }
                Note::Signal(Signal::SIGTSTP) => true,
                Note::Signal(signal) => return Ok(Stopped::Signal(signal as i32)),
                Note::NoTerminal(error) => return Err(ShowError::Terminal(error)),
                Note::Broken(why) => return Err(ShowError::Broken(why)),
            };
            if app.is_over {
                return Ok(Stopped::Quit);
            }
            if suspended {
                suspend(screen, mouse).map_err(ShowError::Terminal)?;
            }
        }
    }
}

fn draw(app: &mut App, screen: &mut Screen, runner: &Runner) -> io::Result<()> {
    let now = screen.size()?;
    if (now.width, now.height) != app.size {
        runner.run_all(app.update(Message::Resize(now.width, now.height)));
    }
    screen.draw(|frame| app.render(frame.buffer_mut()))?;
    Ok(())
}

/// Stops as every program does at Ctrl-Z, and goes on in the foreground.
fn suspend(screen: &mut Screen, mouse: bool) -> io::Result<()> {
    leave();
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTSTP);
    stop.thread_unblock()?;
    // The whole job: what feeds this through a pipe, too. Where no shell could continue it, the kernel does not stop it.
    kill(Pid::from_raw(0), Signal::SIGTSTP)?;
    stop.thread_block()?;
    *screen = enter(mouse)?;
    Ok(())
}

/// What a key, or the mouse, means.
fn messages(event: &Event) -> Vec<Message> {
    match event {
        Event::Key(KeyEvent { kind: KeyEventKind::Release, .. }) => Vec::new(),
        Event::Key(event) => {
            let key = key(event);
            // A terminal writes Alt and a letter as it writes Esc and then the letter: somebody types fast.
            let is_letter = matches!(event.code, KeyCode::Char(_) | KeyCode::Enter | KeyCode::Backspace);
            let esc = (is_letter && event.modifiers.contains(KeyModifiers::ALT)).then_some(Key::Esc);
            esc.into_iter().chain(key).map(Message::Key).collect()
        }
        Event::Resize(columns, lines) => vec![Message::Resize(*columns, *lines)],
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::Down(MouseButton::Left) => vec![Message::Click(mouse.column, mouse.row)],
            MouseEventKind::ScrollDown => vec![Message::Wheel(3)],
            MouseEventKind::ScrollUp => vec![Message::Wheel(-3)],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn key(event: &KeyEvent) -> Option<Key> {
    Some(match event.code {
        KeyCode::Char(c) if event.modifiers.contains(KeyModifiers::CONTROL) => Key::Ctrl(c),
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn esc_and_a_letter_that_come_together_are_two_keys() {
        let pressed = |code, modifiers| {
            let messages = messages(&Event::Key(KeyEvent::new(code, modifiers)));
            let key = |message| if let Message::Key(key) = message { Some(key) } else { None };
            messages.into_iter().filter_map(key).collect::<Vec<_>>()
        };
        assert_eq!(pressed(KeyCode::Char('/'), KeyModifiers::ALT), [Key::Esc, Key::Char('/')]);
        assert_eq!(pressed(KeyCode::Char('/'), KeyModifiers::NONE), [Key::Char('/')]);
        assert_eq!(pressed(KeyCode::Char('c'), KeyModifiers::CONTROL), [Key::Ctrl('c')]);
        assert_eq!(pressed(KeyCode::Left, KeyModifiers::ALT), [Key::Left]);
    }

    #[test]
    fn a_dumb_terminal_is_told_what_it_lacks() {
        assert!(lacks(Some(OsStr::new("dumb"))).is_some_and(|why| why.contains("cursor")));
        assert!(lacks(None).is_some() && lacks(Some(OsStr::new(""))).is_some());
        assert_eq!(lacks(Some(OsStr::new("xterm-256color"))), None);
    }
}
