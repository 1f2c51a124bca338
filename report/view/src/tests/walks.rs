//! Walks through traces, key by key.

use super::Stage;
use super::made::{MS, Maker, START, long, shop};
use crate::app::View;
use crate::message::Key;
use ctrace_format::{Event, Marker};

const SMALL: (u16, u16) = (80, 24);

#[test]
fn the_first_screen_has_the_findings() {
    let mut stage = Stage::new(vec![shop(START)], SMALL);
    let screen = stage.screen();
    assert_eq!(screen[0], "ctrace view [1 findings] 2 timeline  3 events                     ? help  q quit");
    assert_eq!(screen[1], "first.ctr  42 events LOST · redaction default");
    assert!(screen[2].starts_with("▶ 1 "), "{}", screen[2]);
    assert!(screen.iter().any(|line| line.contains("127.0.0.1:6379")), "{screen:#?}");
    assert!(stage.status().starts_with("3 findings · 1,006 events"), "{}", stage.status());
}

#[test]
fn a_finding_leads_to_its_event_and_the_event_tells_all() {
    let mut stage = Stage::new(vec![shop(START)], SMALL);
    let refused = stage.app.findings(0).iter().position(|f| f.kind.name() == "refused").unwrap();
    for _ in 0..refused {
        stage.key(Key::Down);
    }
    stage.key(Key::Enter);
    assert_eq!(stage.app.view, View::Events);
    let chosen = stage.chosen();
    assert!(chosen.contains("127.0.0.1:6379"), "{chosen}");
    assert!(chosen.starts_with('!'), "not told by its colour alone: {chosen}");
    let screen = stage.screen();
    assert!(screen.iter().any(|line| line.contains("── detail ")), "{screen:#?}");
    assert!(
        screen.iter().any(|line| line.starts_with("errno") && line.contains("ECONNREFUSED")),
        "{screen:#?}"
    );
}

#[test]
fn events_are_filtered_while_somebody_types_and_esc_takes_it_back() {
    let mut stage = Stage::new(vec![shop(START)], SMALL);
    stage.type_("3/");
    stage.type_("help");
    assert!(stage.status().starts_with("1 of 100 found, event 1 of 1,006"), "{}", stage.status());
    assert_eq!(stage.last(), "/help▏");
    let screen = stage.screen();
    assert!(screen[2..22].iter().all(|line| line.contains("helper[11]")), "{screen:#?}");
    // Half-typed options say what is missing, and what was found stays.
    stage.type_(" --errno E");
    assert!(stage.last().contains("no error is named"), "{}", stage.last());
    assert!(stage.status().starts_with("1 of 100 found"), "{}", stage.status());
    stage.key(Key::Ctrl('u'));
    stage.type_("EACCES");
    assert!(stage.status().starts_with("1 of 1 found, event 502 of"), "{}", stage.status());
    stage.key(Key::Enter);
    assert!(stage.status().ends_with("/EACCES"), "{}", stage.status());
    stage.key(Key::Esc);
    assert!(stage.status().starts_with("event 502 of 1,006"), "{}", stage.status());
    stage.type_("/nothing has this name");
    assert!(stage.screen()[2].contains("no event fits"));
    stage.key(Key::Esc);
    assert_eq!(stage.app.sides[0].listed().count(), 1006);
}

#[test]
fn a_task_a_descriptor_and_a_connection_are_followed() {
    let mut stage = Stage::new(vec![shop(START)], SMALL);
    stage.type_("3t");
    assert!(stage.status().contains("1 of 100 found") && stage.status().contains("follows helper[11]"));
    stage.key(Key::Esc);
    stage.key(Key::Down);
    stage.type_("f");
    assert!(stage.status().contains("1 of 900 found"), "{}", stage.status());
    assert!(stage.status().contains("follows /var/lib/data"), "{}", stage.status());
    stage.type_("c");
    assert!(stage.last().contains("this event has no connection"), "{}", stage.last());
    stage.key(Key::Esc);
    stage.type_("/connect");
    stage.key(Key::Enter);
    stage.type_("c");
    stage.type_("/");
    stage.key(Key::Ctrl('u'));
    stage.key(Key::Enter);
    // The call, and what the kernel told of it.
    assert!(stage.status().contains("of 2 found"), "{}", stage.status());
    let screen = stage.screen();
    assert!(screen[2].contains("connect(") && screen[3].contains("SYN_SENT"), "{screen:#?}");
}

#[test]
fn errors_and_marks_are_jumped_between() {
    let mut stage = Stage::new(vec![shop(START)], SMALL);
    stage.type_("3ma");
    let mut seen = Vec::new();
    for _ in 0..6 {
        stage.type_("e");
        seen.push(stage.app.sides[0].at().unwrap());
    }
    assert_eq!(seen, [501, 502, 503, 504, 1005, 1005]);
    assert!(stage.last().contains("nothing listed went wrong after this"), "{}", stage.last());
    stage.type_("E");
    assert_eq!(stage.app.sides[0].at(), Some(504));
    stage.type_("'a");
    assert_eq!(stage.app.sides[0].at(), Some(0));
    assert!(stage.screen()[2].starts_with(" a"), "{}", stage.screen()[2]);
    stage.type_("'z");
    assert!(stage.last().contains("no mark z"));
}

#[test]
fn the_timeline_shows_what_happened_when_and_a_brush_limits_the_events() {
    let mut stage = Stage::new(vec![shop(START)], SMALL);
    stage.type_("2");
    let screen = stage.screen();
    let line = |start: &str| {
        screen.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{screen:#?}"))
    };
    assert!(line("calls/s").contains('█'));
    // Lost in the middle, and nowhere else.
    let lost: Vec<usize> =
        line("lost 42").chars().enumerate().filter(|(_, c)| *c == '▓').map(|(at, _)| at).collect();
    assert_eq!(lost, [12 + 34], "{}", line("lost 42"));
    assert!(line(" 1 ").contains('━'));
    // From a quarter to the half.
    for _ in 0..17 {
        stage.key(Key::Right);
    }
    stage.type_("v");
    for _ in 0..10 {
        stage.key(Key::Right);
    }
    assert!(stage.status().contains("brush 149.25"), "{}", stage.status());
    stage.key(Key::Enter);
    assert_eq!(stage.app.view, View::Events);
    assert!(stage.status().contains("of 149 found"), "{}", stage.status());
    assert!(stage.chosen().contains("0.254000"), "{}", stage.chosen());
    stage.key(Key::Esc);
    assert!(stage.status().contains("of 1,006") && !stage.status().contains("found"));
    // Deep enough for figures of its own.
    stage.type_("2");
    for _ in 0..8 {
        stage.type_("+");
    }
    let fine = stage.app.sides[0].fine.as_ref().unwrap();
    assert!((3..=5).contains(&fine.bins.iter().map(|bin| bin.calls).sum::<u64>()), "{fine:?}");
}

#[test]
fn two_traces_move_together_by_start_and_by_the_clock() {
    let mut stage = Stage::new(vec![shop(START), shop(START + 300 * MS)], (160, 30));
    stage.type_("3");
    let times = |stage: &Stage| -> Vec<u64> {
        stage.app.sides.iter().map(|side| side.row().unwrap().end_ns / MS).collect()
    };
    for _ in 0..600 {
        stage.tell(crate::message::Message::Key(Key::Down));
    }
    stage.settle();
    let by_start = times(&stage);
    assert_eq!(by_start[0], by_start[1]);
    assert!((590..=600).contains(&by_start[0]), "{by_start:?}");
    let screen = stage.screen();
    assert!(screen[1].contains("▶ first.ctr") && screen[1].contains("second.ctr"), "{}", screen[1]);
    stage.type_("w");
    let by_clock = times(&stage);
    assert_eq!(by_clock[0] - by_clock[1], 300, "{by_clock:?}");
    assert!(stage.screen()[1].contains("shifted -300ms"), "{}", stage.screen()[1]);
    for _ in 0..5 {
        stage.type_(">");
    }
    let shifted = times(&stage);
    assert_eq!(shifted[0] - shifted[1], 295, "{shifted:?}");
    // The other one leads now.
    stage.type_("o");
    stage.key(Key::Home);
    let led = times(&stage);
    assert_eq!((led[0], led[1]), (295, 0));
    // What is typed is for both, and each has its own.
    stage.type_("/EACCES");
    stage.key(Key::Enter);
    assert!(stage.app.sides.iter().all(|side| side.listed().count() == 1));
}

#[test]
fn traces_that_do_not_overlap_are_aligned_by_their_starts() {
    let mut stage = Stage::new(vec![shop(START), shop(START + 3_600_000 * MS)], SMALL);
    stage.type_("3w");
    assert!(stage.last().contains("different times of day"), "{}", stage.last());
    assert_eq!(stage.app.alignment.shift_ns, 0);
}

#[test]
fn pages_are_read_one_by_one_and_numbers_stay_right() {
    let mut stage = Stage::new(vec![long(200_000)], SMALL);
    assert!(stage.app.sides[0].pages.all.len() > 2, "{:?}", stage.app.sides[0].pages.all);
    stage.type_("3");
    let first = |stage: &Stage| stage.app.sides[0].row().unwrap().end_ns;
    // The call of this number ended then.
    let end_of = |number: u64| number * 1_000 + 1_000;
    stage.key(Key::End);
    assert_eq!(first(&stage), end_of(199_999));
    for _ in 0..30 {
        stage.key(Key::PageUp);
    }
    assert_eq!(first(&stage), end_of(199_999 - 30 * 19));
    stage.type_("g");
    stage.type_("e");
    assert_eq!(first(&stage), end_of(999));
    stage.type_("/odd");
    stage.key(Key::Enter);
    assert!(stage.status().contains("of 100,000 found"), "{}", stage.status());
    stage.key(Key::End);
    assert_eq!(first(&stage), end_of(199_999));
    stage.type_("E");
    assert_eq!(first(&stage), end_of(198_999));
    assert_eq!(stage.app.sides[0].errors.count(), 200);
    let held = stage.app.sides[0].rows.len();
    assert!(held < 4500, "{held} rows are in memory");
}

#[test]
fn a_filter_given_at_the_start_reads_everything_once() {
    let stage = Stage::with(vec![long(200_000)], SMALL, "--slower 1us /even EACCES");
    assert_eq!(stage.app.sides[0].listed().count(), 0);
    let stage = Stage::with(vec![long(200_000)], SMALL, "/odd EACCES");
    assert_eq!((stage.app.sides[0].listed().count(), stage.app.sides[0].shown.count()), (200, 200_000));
}

#[test]
fn names_of_others_do_nothing_to_a_terminal_and_keep_to_their_columns() {
    let mut maker = Maker::new(START);
    let wide = maker.task(10, "漢字漢字\u{1b}[2J");
    let hostile = "/tmp/\u{202e}gpj.exe\u{1b}]0;title\u{7}\r\n\u{200b}e\u{301}\u{301}\u{301}\u{301}end";
    maker.call(0, wide, "openat", hostile, -2);
    maker.call(1_000, wide, "read", hostile, 1);
    let text = maker.writer.str(&[b'\x1b'; 5000]);
    maker.push(&Event::Marker(Marker { t_ns: 9_000, text }));
    let mut stage = Stage::new(vec![maker.finish(MS)], SMALL);
    for view in ["1", "2", "3"] {
        stage.type_(view);
        if view == "3" {
            stage.key(Key::Enter);
        }
        for left in 0..40 {
            let screen = stage.screen();
            for line in &screen {
                assert!(!line.chars().any(ctrace_report::escape::is_hostile), "{line:?}");
                let width = unicode_width::UnicodeWidthStr::width(line.as_str());
                assert!(width <= 80, "{width} columns: {line}");
            }
            if view == "3" && left == 0 {
                assert!(screen.iter().any(|line| line.contains("\\u{202e}gpj.exe")), "{screen:#?}");
                assert!(screen.iter().any(|line| line.contains("漢字漢字")), "{screen:#?}");
            }
            stage.key(Key::Right);
        }
    }
    // What is typed, neither.
    stage.type_("/\u{202e}");
    assert!(stage.last().starts_with("/\\u{202e}"), "{}", stage.last());
}

#[test]
fn torn_and_empty_traces_open_and_say_so() {
    let mut maker = Maker::new(START);
    let task = maker.task(10, "app");
    maker.call(0, task, "read", "/file", 1);
    let mut stage = Stage::new(vec![maker.die()], SMALL);
    assert!(stage.screen()[1].contains("torn"), "{}", stage.screen()[1]);
    stage.type_("3");
    assert!(stage.screen()[2].contains("read(3</file>"), "{}", stage.screen()[2]);
    let mut stage = Stage::new(vec![Maker::new(START).finish(0)], SMALL);
    assert!(stage.screen()[3].contains("in what there is of this trace"), "{}", stage.screen()[3]);
    assert!(stage.screen()[1].contains("no events"), "{}", stage.screen()[1]);
    for keys in ["2", "v+", "3", "eE", "tfc", "g", "/read"] {
        stage.type_(keys);
    }
    stage.key(Key::Esc);
    assert!(stage.screen()[2].contains("this trace has no events"), "{}", stage.screen()[2]);
}

#[test]
fn every_size_has_a_screen() {
    let mut stage = Stage::new(vec![shop(START), shop(START)], SMALL);
    for size in [(1, 1), (39, 9), (40, 10), (41, 11), (80, 24), (139, 60), (140, 20), (200, 60), (500, 5)] {
        stage.screen = ratatui::Terminal::new(ratatui::backend::TestBackend::new(size.0, size.1)).unwrap();
        stage.tell(crate::message::Message::Resize(size.0, size.1));
        stage.settle();
        for keys in ["1", "2v", "3", "?"] {
            stage.type_(keys);
            stage.key(Key::Enter);
            let _ = stage.screen();
            stage.key(Key::Esc);
        }
    }
}

#[test]
fn help_lists_the_keys_and_any_key_closes_it() {
    let mut stage = Stage::new(vec![shop(START)], SMALL);
    stage.type_("?");
    let screen = stage.screen();
    for word in
        ["findings", "timeline", "follow its task", "set mark a", "align by the clock", "any key closes this"]
    {
        assert!(screen.iter().any(|line| line.contains(word)), "{word}: {screen:#?}");
    }
    stage.type_("q");
    assert!(!stage.app.panes.help && !stage.app.is_over);
    stage.type_("q");
    assert!(stage.app.is_over);
}
