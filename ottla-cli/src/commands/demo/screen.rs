//! What somebody who watches sees: a line for everything that happens, and progress bars where stderr is a terminal.

use std::{
    fmt,
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::report::Seconds;
use crate::output::say;

const CYAN: &str = "{prefix:>13} {bar:40.cyan} {human_pos:>7}";
const GREEN: &str = "{prefix:>13} {bar:40.green} {human_pos:>7}";
const RED: &str = "{prefix:>13} {bar:40.red} {human_pos:>7}";
const WAITING: &str = "{prefix:>13} {bar:40.yellow} {eta:>7}";
/// How often the time that passes is shown.
const TICK: Duration = Duration::from_millis(100);

pub(super) struct Screen {
    began: Instant,
    bars: Option<Bars>,
}

struct Bars {
    all: MultiProgress,
    produced: ProgressBar,
    handled: ProgressBar,
    twice: ProgressBar,
}

impl Screen {
    /// For a run with so many orders.
    pub(super) fn new(orders: u64) -> Self {
        let bars = io::stderr().is_terminal().then(|| Bars::new(orders));
        Self { began: Instant::now(), bars }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Something happened now: to whom, and what.
    pub(super) fn line(&self, who: &str, what: impl fmt::Display) {
        let line = format!("{:>7} s  {who:<8} {what}", Seconds(self.elapsed()).to_string());
        match &self.bars {
            // A terminal that is gone is no reason to fail.
            Some(bars) => drop(bars.all.println(line)),
            None => say(line),
        }
    }

    pub(super) fn produced_one(&self) {
        self.advance(|bars| &bars.produced);
    }

    pub(super) fn handled_one(&self) {
        self.advance(|bars| &bars.handled);
    }

    pub(super) fn handled_one_again(&self) {
        self.advance(|bars| &bars.twice);
    }

    /// Waits, and shows how much of the waiting is over.
    pub(super) async fn wait(&self, name: &'static str, duration: Duration) {
        let until = Instant::now() + duration;
        let bar = self.bars.as_ref().map(|bars| bars.all.add(bar(name, WAITING, millis(duration))));
        while let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            if let (Some(bars), Some(bar)) = (&self.bars, &bar) {
                bars.refresh();
                bar.set_position(millis(duration - left));
            }
            tokio::time::sleep(left.min(TICK)).await;
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    /// Leaves the bars as they are, and what comes now below them.
    pub(super) fn end(&self) {
        if let Some(bars) = &self.bars {
            for bar in bars.each() {
                bar.abandon();
            }
            say("");
        }
    }

    fn advance(&self, bar: impl Fn(&Bars) -> &ProgressBar) {
        if let Some(bars) = &self.bars {
            bar(bars).inc(1);
        }
    }
}

impl Bars {
    fn new(orders: u64) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let bar = |name, look| all.add(bar(name, look, orders));
        let bars = Self {
            produced: bar("produced", CYAN),
            handled: bar("handled", GREEN),
            twice: bar("handled twice", RED),
            all,
        };
        bars.refresh();
        bars
    }

    /// Bars are drawn only so often: the last of many steps may not be on the screen yet.
    fn refresh(&self) {
        for bar in self.each() {
            bar.tick();
        }
    }

    fn each(&self) -> [&ProgressBar; 3] {
        [&self.produced, &self.handled, &self.twice]
    }
}

fn bar(name: &'static str, look: &str, length: u64) -> ProgressBar {
    // A test reads all templates; a bar that looks plain would be no harm either.
    let style = ProgressStyle::with_template(look).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style).with_prefix(name)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_has_the_look_that_it_should_have() {
        for look in [CYAN, GREEN, RED, WAITING] {
            assert!(ProgressStyle::with_template(look).is_ok(), "{look}");
        }
    }
}
