//! How far long work is, where somebody watches.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const OPEN: &str = "{spinner} {human_pos} records, {per_sec}, {elapsed}";
const BOUNDED: &str = "{wide_bar} {human_pos}/{human_len} records, {per_sec}, {eta} left";

/// A line on stderr that counts records, and goes away at the end; nothing where stderr is no terminal.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// With a bar if it is known how many there will be. What is printed to the same terminal would tear it, so that it is
    /// not shown when `terminal_is_in_use`.
    pub(crate) fn of_records(terminal_is_in_use: bool, total: Option<u64>) -> Self {
        if terminal_is_in_use || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        // A test reads the templates.
        let look = ProgressStyle::with_template(if total.is_some() { BOUNDED } else { OPEN });
        Self(bar.with_style(look.unwrap_or_else(|_| ProgressStyle::default_spinner())))
    }

    pub(crate) fn add(&self, records: u64) {
        self.0.inc(records);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressStyle;

    #[test]
    fn the_lines_have_the_look_that_they_should_have() {
        for look in [super::OPEN, super::BOUNDED] {
            assert!(ProgressStyle::with_template(look).is_ok(), "{look}");
        }
    }
}
