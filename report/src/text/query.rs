//! A choice of events that is typed while they are looked at: the options of `ctrace events` on one line, and words that
//! are looked for.
//!
//! `-e connect,%file -t checkout --errno ENOENT --slower 10ms` means what it means there. Without an option, `%net` and
//! `!futex` are calls, `/var/lib` is a path, `ENOENT` an error; any other word is looked for in names: of the call, of its
//! task, of what it works on, of its error, and in the lines of events that are no calls.

use super::Events;
use super::decode;
use super::filter::{self, Calls, Selection, Wish};
use super::units;
use super::when::{self, When, Zone};
use super::{containers, decode::plain};
use ctrace_analysis::connects::Connected;
use ctrace_analysis::{Containers, Pattern};
use ctrace_format::{
    Class, Connection, ConnectionKind, Detail, Event, ObjectId, StrId, Syscall, Sysno, TaskId, Trace, errno,
    syscalls,
};
use std::collections::HashMap;

/// A choice, as it was typed.
#[derive(Debug, Clone, Default)]
pub struct Query {
    wish: Wish,
    calls: String,
    containers: Vec<String>,
    classes: Vec<Class>,
    since: Option<When>,
    until: Option<When>,
    words: Vec<String>,
}

/// The options that take a value, by all their names, and what they take.
const OPTIONS: [(&[&str], &str); 9] = [
    (&["-e", "--syscall"], "calls: names, or classes such as %net"),
    (&["-t", "--task"], "a thread or process id, or a name"),
    (&["--errno"], "an error: ENOENT"),
    (&["--path"], "a path"),
    (&["--slower"], "a duration: 10ms"),
    (&["--since"], "a time: 2.5s, 18:52:03"),
    (&["--until"], "a time: 2.5s, 18:52:03"),
    (&["--class"], "kinds of events: connection,process"),
    (&["--container"], "a container's name"),
];

impl Query {
    /// Reads what was typed.
    ///
    /// # Errors
    /// A sentence for what makes no sense, or is not typed to its end.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut query = Self::default();
        let mut words = split(line).into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-Z" | "--failed" => query.wish.failed = true,
                "--engine" => query.wish.engine = true,
                // An option that is being typed.
                "-" | "--" => {}
                option if option.starts_with('-') => {
                    let (name, given) = option
                        .split_once('=')
                        .map_or((option, None), |(name, value)| (name, Some(value.to_owned())));
                    let known = OPTIONS.iter().find(|(names, _)| names.contains(&name));
                    let (names, takes) = known.ok_or_else(|| {
                        let all: Vec<&str> =
                            OPTIONS.iter().filter_map(|(names, _)| names.last().copied()).collect();
                        format!("no option is named {name}; there are --failed, --engine, {}", all.join(", "))
                    })?;
                    let value = given.or_else(|| words.next()).filter(|value| !value.is_empty());
                    let value = value.ok_or_else(|| format!("{name} takes {takes}"))?;
                    query.option(names.last().copied().unwrap_or_default(), &value)?;
                }
                _ => query.bare(&word)?,
            }
        }
        query.wish.calls = Calls::parse(&query.calls).map_err(|error| error.to_string())?;
        Ok(query)
    }

    /// Takes an option, by its long name.
    fn option(&mut self, name: &str, value: &str) -> Result<(), String> {
        let list = || value.split(',').map(str::trim).filter(|v| !v.is_empty());
        match name {
            "--syscall" => self.add_calls(value),
            "--task" => {
                self.wish.tasks.extend(list().map(filter::parse_task).collect::<Result<Vec<_>, _>>()?);
            }
            "--errno" => {
                self.wish.errnos.extend(list().map(filter::parse_errno).collect::<Result<Vec<_>, _>>()?);
            }
            "--path" => self.wish.paths.push(Pattern::new(value)),
            "--slower" => self.wish.slower_ns = units::parse_duration(value)?,
            "--since" => self.since = Some(when::parse(value)?),
            "--until" => self.until = Some(when::parse(value)?),
            "--class" => {
                for name in list() {
                    self.classes.push(filter::class(name).ok_or_else(|| {
                        let names: Vec<&str> = filter::CLASSES.iter().map(|class| class.name()).collect();
                        format!("no class of events is named {name}; there are {}", names.join(", "))
                    })?);
                }
            }
            _ => self.containers.extend(list().map(str::to_owned)),
        }
        Ok(())
    }

    fn add_calls(&mut self, calls: &str) {
        if !self.calls.is_empty() {
            self.calls.push(',');
        }
        self.calls.push_str(calls);
    }

    fn bare(&mut self, word: &str) -> Result<(), String> {
        let is_errno = word.len() > 1 && word.starts_with('E') && errno::number(word).is_some();
        match word.chars().next() {
            Some('%' | '!') if word.len() > 1 => self.add_calls(word),
            // A class of calls that is being typed.
            Some('%' | '!') => {}
            Some('/') => self.wish.paths.push(Pattern::new(word)),
            _ if is_errno => self.wish.errnos.push(filter::parse_errno(word)?),
            _ => self.words.push(word.to_lowercase()),
        }
        Ok(())
    }

    /// Whether it leaves nothing out.
    pub fn is_empty(&self) -> bool {
        let wish = &self.wish;
        wish.tasks.is_empty()
            && wish.calls == Calls::default()
            && wish.errnos.is_empty()
            && !wish.failed
            && wish.paths.is_empty()
            && wish.slower_ns == 0
            && !wish.engine
            && self.containers.is_empty()
            && self.classes.is_empty()
            && self.since.is_none()
            && self.until.is_none()
            && self.words.is_empty()
    }
}

/// Words with blanks between; quotes keep blanks.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quote, mut any) = (None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => (quote, any) = (Some(c), true),
            (None, c) if c.is_whitespace() => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                    any = false;
                }
            }
            (_, c) => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

/// A choice made ready for one trace.
pub struct Matcher {
    selection: Selection,
    calls: Calls,
    /// Only these classes; empty: all that are shown to those who ask for none.
    classes: Vec<Class>,
    /// No classes were asked for.
    quiet: bool,
    from_ns: u64,
    to_ns: u64,
    words: Vec<Word>,
    /// Whether a call of this number is wanted by its name.
    named: HashMap<Sysno, bool>,
}

impl Matcher {
    /// Makes it ready. Times of day are those of the zone.
    ///
    /// # Errors
    /// A sentence when it names a container that the trace does not have.
    pub fn new(query: &Query, trace: &Trace, all: &Containers, zone: Zone) -> Result<Self, String> {
        let mut wish = query.wish.clone();
        if !query.containers.is_empty() {
            let mut numbers = Vec::new();
            for word in &query.containers {
                let found = containers::meant(all, word);
                if found.is_empty() {
                    return Err(format!("the trace has no container {word:?}"));
                }
                numbers.extend(found);
            }
            wish.containers = Some(numbers);
        }
        let start_ns = trace.header().start_realtime_ns;
        let time = |when: Option<When>| when.map(|when| when.after_start(start_ns, zone));
        let calls = wish.calls.clone();
        let selection = Selection::new(wish, trace, all);
        let classes = if query.classes.is_empty() { selection.classes() } else { query.classes.clone() };
        Ok(Self {
            selection,
            calls,
            classes,
            quiet: query.classes.is_empty(),
            from_ns: time(query.since).unwrap_or(0),
            to_ns: time(query.until).unwrap_or(u64::MAX),
            words: query.words.iter().map(|word| Word::new(word.clone(), trace)).collect(),
            named: HashMap::new(),
        })
    }

    /// Whether an event is chosen.
    pub fn fits(&mut self, events: &Events, event: &Event) -> bool {
        if event.end_ns() < self.from_ns || event.start_ns() > self.to_ns {
            return false;
        }
        let is_of_class = self.classes.is_empty() || self.classes.contains(&event.class());
        if !is_of_class || self.quiet && is_quiet(event) {
            return false;
        }
        if let Event::Syscall(call) = event {
            let calls = &self.calls;
            let wanted = self.named.entry(call.sysno);
            if !*wanted.or_insert_with(|| calls.has(syscalls::name(call.sysno).unwrap_or(""))) {
                return false;
            }
        }
        let failed = failed_connection(event);
        self.selection.passes(events, event, failed.as_ref())
            && self.words.iter_mut().all(|word| word.is_in(events, event))
    }
}

/// Whether an event is shown only to those who ask for its class.
pub fn is_quiet(event: &Event) -> bool {
    matches!(event, Event::Resource(_) | Event::Usage(_) | Event::Socket(_)) || Events::is_quiet(event)
}

/// The attempt to connect that came to nothing by this event of the kernel.
fn failed_connection(event: &Event) -> Option<Connected> {
    let Event::Connection(Connection { t_ns, cookie, task, peer, kind, .. }) = event else { return None };
    let ConnectionKind::State { error, .. } = kind else { return None };
    (*error != 0).then(|| Connected {
        t_ns: *t_ns,
        took_ns: 0,
        task: *task,
        cookie: Some(*cookie),
        peer: Some(peer.clone()),
        error: Some(*error),
        waited: true,
        gave_up: false,
        injected: false,
    })
}

/// A word that is looked for, and where it is known to be: names come again and again.
struct Word {
    lower: String,
    calls: HashMap<Sysno, bool>,
    errors: HashMap<u32, bool>,
    tasks: Vec<Option<bool>>,
    objects: Vec<Option<bool>>,
    strings: Vec<Option<bool>>,
}

/// More strings are looked at again.
const MAX_STRINGS: usize = 1 << 22;

impl Word {
    fn new(lower: String, trace: &Trace) -> Self {
        Self {
            lower,
            calls: HashMap::new(),
            errors: HashMap::new(),
            tasks: vec![None; trace.tasks().len()],
            objects: vec![None; trace.objects().len()],
            strings: Vec::new(),
        }
    }

    fn is_in(&mut self, events: &Events, event: &Event) -> bool {
        match event {
            Event::Syscall(call) => self.is_in_call(events, call),
            other => events.line(other).is_some_and(|line| holds(&line, &self.lower)),
        }
    }

    fn is_in_call(&mut self, events: &Events, call: &Syscall) -> bool {
        let lower = &self.lower;
        let name = |sysno| syscalls::name(sysno).is_some_and(|name| holds(name, lower));
        if *self.calls.entry(call.sysno).or_insert_with_key(|sysno| name(*sysno)) {
            return true;
        }
        let errors = &mut self.errors;
        let mut named =
            |errno| *errors.entry(errno).or_insert_with(|| holds(&decode::errno_name(errno), lower));
        if call.errno().is_some_and(&mut named) || self.task(events, call.task) {
            return true;
        }
        call.object.is_some_and(|object| self.object(events, object))
            || call.details.iter().any(|detail| self.detail(events, detail))
    }

    fn task(&mut self, events: &Events, id: TaskId) -> bool {
        let lower = &self.lower;
        memo(&mut self.tasks, id.0, || holds(&events.who(id), lower))
    }

    fn object(&mut self, events: &Events, id: ObjectId) -> bool {
        let lower = &self.lower;
        memo(&mut self.objects, id.0, || {
            let trace = events.trace();
            holds(&decode::object(trace, trace.object(id), None), lower)
        })
    }

    fn string(&mut self, events: &Events, id: StrId) -> bool {
        let lower = &self.lower;
        memo(&mut self.strings, id.0, || holds(&plain(events.trace().str(id)), lower))
    }

    fn detail(&mut self, events: &Events, detail: &Detail) -> bool {
        match detail {
            Detail::Str { value, .. } => self.string(events, *value),
            Detail::Argv { words, .. } => words.iter().any(|word| self.string(events, *word)),
            Detail::Object { object, .. } => self.object(events, *object),
            Detail::NewFds { objects, .. } => {
                objects.iter().flatten().any(|object| self.object(events, *object))
            }
            Detail::Passed { fds, .. } => {
                fds.iter().filter_map(|fd| fd.object).any(|object| self.object(events, object))
            }
            Detail::Addr { addr, .. } | Detail::Local { addr } => holds(&decode::address(addr), &self.lower),
            Detail::Messages { entries, .. } => {
                let mut addresses = entries.iter().filter_map(|message| message.addr.as_ref());
                addresses.any(|addr| holds(&decode::address(addr), &self.lower))
            }
            _ => false,
        }
    }
}

/// What is known of an id, or is now.
fn memo(known: &mut Vec<Option<bool>>, id: u32, find: impl FnOnce() -> bool) -> bool {
    let at = id as usize;
    if at >= known.len() {
        if at >= MAX_STRINGS {
            return find();
        }
        known.resize(at + 1, None);
    }
    *known[at].get_or_insert_with(find)
}

/// Whether a text holds a word, which is in lower case, in whatever case.
fn holds(text: &str, lower: &str) -> bool {
    if !text.is_ascii() || !lower.is_ascii() {
        return text.to_lowercase().contains(lower);
    }
    let (text, lower) = (text.as_bytes(), lower.as_bytes());
    lower.is_empty() || text.windows(lower.len()).any(|part| part.eq_ignore_ascii_case(lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_means_what_the_options_of_events_mean() {
        let query =
            Query::parse("-e openat,read --errno=enoent -t app,17 --slower 10ms -Z 'two words' /var/lib")
                .unwrap();
        assert_eq!(query.calls, "openat,read");
        assert_eq!(
            (query.wish.errnos.as_slice(), query.wish.slower_ns, query.wish.failed),
            (&[2][..], 10_000_000, true)
        );
        assert_eq!((query.wish.tasks.len(), query.wish.paths.len()), (2, 1));
        assert_eq!(query.words, ["two words"]);
        assert!(Query::parse("").unwrap().is_empty() && Query::parse("  ").unwrap().is_empty());
    }

    #[test]
    fn words_without_an_option_are_known_by_their_looks() {
        let query = Query::parse("%net !futex ECONNREFUSED Redis EVERY").unwrap();
        assert_eq!(query.calls, "%net,!futex");
        assert_eq!(query.wish.errnos, [111]);
        assert_eq!(query.words, ["redis", "every"]);
    }

    #[test]
    fn what_is_half_typed_says_what_is_missing() {
        for (line, says) in [
            ("--errno", "takes an error"),
            ("-e", "takes calls"),
            ("--errno E", "no error is named"),
            ("-e conn", "no system call is named"),
            ("%coffee", "no class of calls"),
            ("--since soon", "is no time"),
            ("--clas x", "no option is named --clas"),
            ("--class x", "no class of events"),
        ] {
            let told = Query::parse(line).unwrap_err();
            assert!(told.contains(says), "{line}: {told}");
        }
        assert!(["%", "-", "--", "!"].iter().all(|begun| Query::parse(begun).unwrap().is_empty()));
    }

    #[test]
    fn case_does_not_matter() {
        assert!(holds("ReDis[12]", "redis") && holds("Größe", "größe") && !holds("red", "redis"));
        assert!(holds("anything", ""));
    }
}
