//! All printing: data to the standard output, words for people to the standard error.

use crate::exit::Failure;
pub(crate) use ctrace_report::{Document, Paint, Shape, Style};
use ctrace_report::{escape, shown};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Writes lines whose words steer nothing, for diagnostics that others put together.
pub(crate) struct Plain<W: Write>(pub(crate) W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let (body, end) = text.strip_suffix('\n').map_or((&*text, ""), |body| (body, "\n"));
        write!(self.0, "{}{end}", escape::line(body))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// How long a reader may take to read what is printed to it, where it must not keep the command: the recorder's end.
const PATIENCE: Duration = Duration::from_millis(500);

/// Threads that are about to print, or cannot.
static PRINTING: AtomicU32 = AtomicU32::new(0);

/// Prints where nobody may read: a full pipe, a terminal that was stopped. What does not get rid of its bytes in time is
/// left behind with them, and until it does, nothing else is printed so.
pub(crate) fn print_in_time(to: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    /// One for each standard stream, and for the line that shows progress.
    const MOST: u32 = 3;
    let late = || io::Error::new(io::ErrorKind::TimedOut, "nobody reads it");
    if PRINTING.load(Ordering::Acquire) >= MOST {
        return Err(late());
    }
    let mut to = std::fs::File::from(to.try_clone_to_owned()?);
    let bytes = bytes.to_vec();
    let (send, done) = std::sync::mpsc::channel();
    PRINTING.fetch_add(1, Ordering::AcqRel);
    let print = move || {
        let printed = to.write_all(&bytes);
        PRINTING.fetch_sub(1, Ordering::AcqRel);
        // Nobody waits any more if it took too long.
        let _ = send.send(printed);
    };
    if let Err(error) = std::thread::Builder::new().name("ctrace-print".into()).spawn(print) {
        PRINTING.fetch_sub(1, Ordering::AcqRel);
        return Err(error);
    }
    loop {
        let began = Instant::now();
        match done.recv_timeout(PATIENCE) {
            Ok(printed) => return printed,
            // This process was stopped, or got no CPU: nobody can read what it had no time to print.
            Err(_) if began.elapsed() > PATIENCE * 3 / 2 => {}
            Err(_) => return Err(late()),
        }
    }
}

/// Standard output: as everybody writes to it, or in time.
struct Data {
    stdout: io::StdoutLock<'static>,
    in_time: bool,
}

impl Write for Data {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.in_time {
            return print_in_time(self.stdout.as_fd(), bytes).map(|()| bytes.len());
        }
        self.stdout.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// Begins a line that an error shows below its sentence.
const SHOWN_BELOW: &str = "\n  ";

/// Where a command's words and data go.
pub(crate) struct Output {
    data: BufWriter<Data>,
    /// Words are printed in time or not at all; `false` again when nobody reads them.
    words_in_time: Option<bool>,
    data_is_terminal: bool,
    paint: Paint,
    data_paint: Paint,
    progress: bool,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(color: ColorChoice, quiet: bool) -> Self {
        let wanted = |terminal: bool| match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                terminal
                    && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
                    && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
            }
        };
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            data: BufWriter::with_capacity(64 * 1024, Data { stdout: io::stdout().lock(), in_time: false }),
            words_in_time: None,
            data_is_terminal: out,
            paint: Paint::new(wanted(err)),
            data_paint: Paint::new(wanted(out)),
            progress: err && !quiet,
            quiet,
        }
    }

    /// Colours for [`Output::say`].
    pub(crate) const fn paint(&self) -> Paint {
        self.paint
    }

    /// Colours for [`Output::data`].
    pub(crate) const fn data_paint(&self) -> Paint {
        self.data_paint
    }

    /// Whether the terminal of the data has colours.
    pub(crate) fn has_colours(&self) -> bool {
        self.data_paint == Paint::new(true)
    }

    /// Whether progress may be drawn.
    pub(crate) const fn shows_progress(&self) -> bool {
        self.progress
    }

    /// A line of data.
    ///
    /// # Errors
    /// As the standard output fails; a broken pipe is for the caller to end at.
    pub(crate) fn data(&mut self, line: &str) -> io::Result<()> {
        self.data.write_all(shown(line).as_bytes())?;
        self.data.write_all(b"\n")?;
        if self.data_is_terminal { self.data.flush() } else { Ok(()) }
    }

    /// An object of data on a line of its own.
    ///
    /// # Errors
    /// See [`Output::data`].
    pub(crate) fn json(&mut self, shape: Shape, body: serde_json::Value) -> io::Result<()> {
        self.document(&Document::new(shape, body))
    }

    /// See [`Output::json`].
    ///
    /// # Errors
    /// See [`Output::data`].
    pub(crate) fn document(&mut self, document: &Document) -> io::Result<()> {
        self.data.write_all(document.line().as_bytes())?;
        self.data.write_all(
            b"
",
        )
    }

    /// Raw bytes of data, for generated files.
    pub(crate) fn sink(&mut self) -> &mut impl Write {
        &mut self.data
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// See [`Output::data`].
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.data.flush()
    }

    /// Drops what could not be written to a reader that went away.
    pub(crate) fn abandon(self) {
        // The writer hands back its buffer unwritten; dropping it would try, and fail, once more.
        let _ = self.data.into_parts();
    }

    /// A line for a person. That it cannot be shown is no reason to fail.
    pub(crate) fn say(&mut self, line: &str) {
        if !self.quiet {
            self.insist(line);
        }
    }

    /// A line for a person even under `--quiet`.
    fn insist(&mut self, line: &str) {
        // Data and words share a terminal: keep their order.
        let _ = self.data.flush();
        let line = format!("{}\n", shown(line));
        let _ = match self.words_in_time {
            None => io::stderr().write_all(line.as_bytes()),
            Some(false) => Ok(()),
            Some(true) => print_in_time(io::stderr().as_fd(), line.as_bytes())
                .inspect_err(|_| self.words_in_time = Some(false)),
        };
    }

    /// From now on nothing waits for a reader: words that nobody reads are dropped, data that nobody reads are an error.
    pub(crate) fn do_not_wait(&mut self) {
        self.words_in_time = Some(true);
        self.data.get_mut().in_time = true;
    }

    /// Something the person should know, though the work goes on.
    pub(crate) fn warn(&mut self, what: &str) {
        let line = format!("{} {what}", self.paint.paint(Style::Yellow, "warning:"));
        self.insist(&line);
    }

    /// What failed, why, and what helps.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        let text = failure.text();
        // Some errors show the line that is wrong, indented, and a mark below it.
        let mut lines = text.split(SHOWN_BELOW);
        let first = lines.next().unwrap_or_default();
        self.insist(&format!("{} {first}", self.paint.paint(Style::Red, "error:")));
        for line in lines {
            self.insist(&format!("  {line}"));
        }
        if let Some(fix) = &failure.fix {
            self.insist(&format!("{}   {fix}", self.paint.paint(Style::Cyan, "fix:")));
        }
    }
}
