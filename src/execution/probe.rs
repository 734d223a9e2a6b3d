//! Whether the rooms work, really tried: what the health report asks.

use std::time::Duration;

use crate::cache::Excess;
use crate::error::{Code, Error, Result};
use crate::python::{Analysis, Severity, analyse};
use crate::sandbox::{Ending, Job, Limits};

use super::Execution;

/// What no host can allow: its lists are of modules.
const FORBIDDEN: &str = "result = eval(inputs['x'])\n";
/// What a host may allow, by the name of the module.
const FORBIDDEN_IMPORT: (&str, &str) = ("os", "import os\nresult = os.listdir('.')\n");
/// What no host can deny.
const HARMLESS: &str = "result = sorted(inputs['x'])\n";

impl Execution {
    /// Starts a child that has nothing to do, and has as long for it. Closing the library ends it.
    pub fn probe_sandbox(&self, patience: Duration) -> Result<()> {
        // Found out before the run is counted among those that closing waits for: nothing ends that before its own time.
        self.sandbox.level()?;
        let run = self.runs.begin(None);
        run.token.arm().map_err(|error| Error::new(Code::Busy, format!("no descriptor for a run: {error}")))?;
        let job = Job { code: "", check: Some(&[]), ..Job::default() };
        let limits = Limits { timeout: patience, ..Limits::of_checks(&self.config) };
        let report = self.run_confined(&job, &limits, Some(&run.token))?;
        match report.ending {
            Ending::Checked { .. } => Ok(()),
            Ending::Timeout { .. } => {
                let millis = patience.as_millis();
                Err(Error::new(Code::Busy, format!("a child with nothing to do was not done after {millis} ms")))
            }
            other => Err(Error::new(Code::Sandbox, format!("a child with nothing to do ended as {other:?}"))),
        }
    }

    /// How much the caches hold of what they may, each shard looked at; the first that holds more is an error.
    pub fn probe_caches(&self) -> std::result::Result<String, String> {
        let excesses = [
            ("execution", self.results.excess()),
            ("execution", self.spellings.excess()),
            ("prepared", self.prepared.excess()),
            ("metadata", self.records.excess()),
        ];
        if let Some((name, Excess { bound, size, most })) =
            excesses.into_iter().find_map(|(name, excess)| Some((name, excess?)))
        {
            return Err(format!("a part of the cache `{name}` holds {size} {}, and may hold {most}", bound.name()));
        }
        let filled = self.cache_stats().map(|(name, stats)| format!("{name} {}/{}", stats.size, stats.max_size));
        Ok(format!("every part was looked at and is within its bounds; entries: {}", filled.join(", ")))
    }

    /// Judges sources by the library's own rules: what is to be found is, and what is harmless passes. What is not so is an error.
    pub fn probe_policy(&self) -> std::result::Result<(), String> {
        let is_on = self.config.policy_mode != "off";
        let (module, import) = FORBIDDEN_IMPORT;
        let is_allowed = self.policy.as_ref().is_some_and(|policy| policy.allows(module));
        // Of what a host allows nothing is said, or little.
        let import = (!is_allowed).then_some((import, is_on));
        for (source, is_to_be_found) in [(FORBIDDEN, is_on), (HARMLESS, false)].into_iter().chain(import) {
            let shown = source.lines().next().unwrap_or_default();
            let analysis = analyse(source, self.policy.as_ref())
                .map_err(|fault| format!("`{shown}` is refused by the parser: {}", fault.message))?;
            match self.is_found(&analysis) {
                true if !is_to_be_found => return Err(format!("`{shown}` is refused, and should not be")),
                false if is_to_be_found => return Err(format!("`{shown}` passes, and should not")),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a source is refused, or would be where the policy is enforced.
    fn is_found(&self, analysis: &Analysis) -> bool {
        match self.config.policy_mode.as_str() {
            "enforce" => self.refusal(analysis).is_some(),
            _ => analysis.findings.iter().any(|finding| finding.severity == Severity::Error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn probed(options: &[(&str, &str)]) -> std::result::Result<(), String> {
        let mut config = Config::default();
        for (name, value) in options {
            config.set(name, value).unwrap_or_else(|error| panic!("{error}"));
        }
        Execution::new(":memory:", &config, false).unwrap_or_else(|error| panic!("{error}")).probe_policy()
    }

    #[test]
    fn every_policy_that_a_host_can_set_is_judged_right() {
        for mode in ["enforce", "warn", "off"] {
            for allowed in ["", "os", "os.path, json", "builtins os sys"] {
                for denied in ["", "*", "os", "json"] {
                    let options =
                        [("policy.mode", mode), ("policy.allow_imports", allowed), ("policy.deny_imports", denied)];
                    assert_eq!(probed(&options), Ok(()), "{options:?}");
                }
            }
        }
    }

    #[test]
    fn a_library_that_does_not_look_or_looks_unasked_is_found_out() {
        let mut execution =
            Execution::new(":memory:", &Config::default(), false).unwrap_or_else(|error| panic!("{error}"));
        execution.config.policy_mode = "off".to_owned();
        assert!(
            execution
                .probe_policy()
                .is_err_and(|message| message.contains("eval") && message.contains("should not be"))
        );
        execution.config.policy_mode = "enforce".to_owned();
        execution.policy = None;
        assert!(execution.probe_policy().is_err_and(|message| message.contains("eval") && message.contains("passes")));
    }
}
