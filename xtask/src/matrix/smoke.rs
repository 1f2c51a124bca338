//! One small command, recorded, looked at and replayed in the guest; judged here.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Every line that is for this module begins with `@smoke STEP STATUS`; data follows.
pub(super) const SCRIPT: &str = r#"
say() { step=$1; shift; out=$("$@" 2>/tmp/smoke.err); code=$?; echo "@smoke $step $code $(echo "$out" | tr -d '\n')"; \
  [ $code -eq 0 ] || sed 's/^/@smoke error 0 /' /tmp/smoke.err; }
ctrace=/payload/release/ctrace
say record $ctrace record -o /tmp/smoke.ctr -- sh -c 'for i in 1 2 3 4 5; do cat /etc/hostname | wc -c; done; cat /no/such/file'
say info $ctrace info /tmp/smoke.ctr --json
say verify $ctrace verify /tmp/smoke.ctr
say replay $ctrace replay /tmp/smoke.ctr --json
"#;

/// Exit code of `ctrace` for a trace whose replay deviates: an emulator misses the gates of time.
const DEVIATED: i64 = 1;

/// What the steps said.
#[derive(Default)]
pub(super) struct Smoke {
    steps: Vec<(String, i64, String)>,
}

impl Smoke {
    /// Whether the line is one of the smoke's; then it is kept.
    pub(super) fn take(&mut self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix("@smoke ") else { return false };
        let mut words = rest.splitn(3, ' ');
        let (step, code) = (words.next().unwrap_or_default(), words.next().and_then(|c| c.parse().ok()));
        self.steps.push((step.to_owned(), code.unwrap_or(-1), words.next().unwrap_or_default().to_owned()));
        true
    }

    /// Takes the steps of another guest in.
    pub(super) fn add(&mut self, other: Self) {
        self.steps.extend(other.steps);
    }

    fn step(&self, name: &str) -> Result<(i64, &str)> {
        let found = self.steps.iter().find(|s| s.0 == name);
        found.map(|s| (s.1, s.2.as_str())).with_context(|| format!("no step {name}"))
    }

    fn errors(&self) -> String {
        let lines: Vec<&str> = self.steps.iter().filter(|s| s.0 == "error").map(|s| s.2.as_str()).collect();
        lines.join("\n  ")
    }

    /// What was found, or what is wrong with it.
    pub(super) fn judge(&self) -> Result<String> {
        self.check().with_context(|| format!("smoke: record, info, verify, replay\n  {}", self.errors()))
    }

    fn check(&self) -> Result<String> {
        // `record` passes the command's own status through: `cat` of a file that is not there.
        ensure!(self.step("record")?.0 == 1, "record ended with {}", self.step("record")?.0);
        let (code, info) = self.step("info")?;
        ensure!(code == 0, "info ended with {code}");
        let info: Value = serde_json::from_str(info).context("info --json")?;
        let number = |v: &Value, key: &str| v[key].as_u64().with_context(|| format!("no {key}"));
        let (calls, lost) = (number(&info["events"], "syscalls")?, number(&info["lost"], "total")?);
        // Eleven programs are executed, each with dozens of calls.
        ensure!(calls > 300 && lost == 0, "{calls} calls recorded, {lost} lost");
        ensure!(number(&info, "processes")? >= 12, "{} processes", info["processes"]);
        ensure!(self.step("verify")?.0 == 0, "verify ended with {}", self.step("verify")?.0);
        let (code, replay) = self.step("replay")?;
        ensure!(code == 0 || code == DEVIATED, "replay ended with {code}");
        let replay: Value = serde_json::from_str(replay).context("replay --json")?;
        let metrics = &replay["diff"]["metrics"];
        for metric in ["coverage", "semantic", "errors"] {
            ensure!(metrics[metric]["pass"] == Value::Bool(true), "{metric}: {}", metrics[metric]);
        }
        Ok(format!(
            "smoke: {calls} calls of {} processes recorded, {lost} lost, {} replayed; coverage {}, semantic {}",
            info["processes"],
            replay["replayed_ops"],
            metrics["coverage"]["value"],
            metrics["semantic"]["value"]
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::Smoke;

    fn steps(calls: u64, coverage: bool) -> Smoke {
        let mut smoke = Smoke::default();
        for line in [
            "@smoke record 1 14".to_owned(),
            format!(
                r#"@smoke info 0 {{"events":{{"syscalls":{calls}}},"lost":{{"total":0}},"processes":12}}"#
            ),
            "@smoke verify 0 ".to_owned(),
            format!(
                r#"@smoke replay 1 {{"diff":{{"metrics":{{"coverage":{{"pass":{coverage}}},"semantic":{{"pass":true}},"errors":{{"pass":true}}}}}}}}"#
            ),
        ] {
            assert!(smoke.take(&line));
        }
        smoke
    }

    #[test]
    fn a_smoke_passes_by_what_it_shows() {
        assert!(!Smoke::default().take("test a ... ok"));
        assert!(steps(400, true).judge().is_ok());
        assert!(steps(40, true).judge().is_err());
        assert!(steps(400, false).judge().is_err());
        assert!(Smoke::default().judge().is_err());
    }
}
