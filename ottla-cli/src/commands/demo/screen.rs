//! What somebody who watches sees: a line for everything that happens, and progress bars where stderr is a terminal.

use std::{
    env, fmt,
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::output::say;

const CYAN: &str = "{prefix:>13} {bar:40.cyan} {human_pos:>7}";
const GREEN: &str = "{prefix:>13} {bar:40.green} {human_pos:>7}";
const RED: &str = "{prefix:>13} {bar:40.red} {human_pos:>7}";
const WAITING: &str = "{prefix:>13} {bar:40.yellow} {msg:>7}";
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

/// To whom something happens.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    Broker,
    Consumer,
    Orders,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Consumer => "consumer",
            Self::Orders => "orders",
        }
    }

    fn colour(self) -> Colour {
        match self {
            Self::Broker => Colour::Yellow,
            Self::Consumer => Colour::Cyan,
            Self::Orders => Colour::Green,
        }
    }
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
    pub(super) fn line(&self, who: Who, what: impl fmt::Display) {
        let time = format!("{:>6} s", Seconds(self.elapsed()).to_string());
        let name = format!("{:<8}", who.name());
        let Some(bars) = &self.bars else { return say(format_args!("{time}  {name}  {what}")) };
        let line = format!("{}  {}  {what}", Colour::Grey.paint(&time), who.colour().paint(&name));
        // A terminal that is gone is no reason to fail.
        drop(bars.all.println(line));
        bars.refresh();
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

    /// Waits, and shows how much of the waiting is left.
    pub(super) async fn wait(&self, name: &'static str, duration: Duration) {
        let until = Instant::now() + duration;
        let bar = self.bars.as_ref().map(|bars| bars.all.add(bar(name, WAITING, millis(duration))));
        while let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            if let (Some(bars), Some(bar)) = (&self.bars, &bar) {
                bars.refresh();
                bar.set_message(format!("{} s", Seconds(left)));
                bar.set_position(millis(duration - left));
            }
            tokio::time::sleep(left.min(TICK)).await;
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    /// Takes the bars away: what they showed is in the report.
    pub(super) fn end(&self) {
        if let Some(bars) = &self.bars {
            for bar in bars.each() {
                bar.finish_and_clear();
            }
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

/// What a terminal can paint text with.
#[derive(Debug, Clone, Copy)]
enum Colour {
    Grey = 90,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

impl Colour {
    fn paint(self, text: &str) -> String {
        // <https://no-color.org>
        if env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            return text.to_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", self as u8)
    }
}

/// `9.3`.
pub(super) struct Seconds(pub(super) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}", self.0.as_secs_f64())
    }
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
