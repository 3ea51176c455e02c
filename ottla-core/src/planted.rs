//! Deliberate defects: `cargo xtask sim --planted` proves that the simulation finds each of them.
//!
//! They exist with `--cfg ottla_planted` only. Without it each hook is the literal `false`, and neither the defects nor their
//! names are in the program.

/// Whether to do the wrong thing here: the defect of this name was chosen, with the environment variable `OTTLA_PLANTED`.
/// Behind the name may stand the profile of the swarm that finds it, where it is not the usual one.
#[cfg(not(ottla_planted))]
macro_rules! planted {
    ($name:literal $(, $profile:ident)?) => {
        false
    };
}

#[cfg(ottla_planted)]
macro_rules! planted {
    ($name:literal $(, $profile:ident)?) => {
        $crate::planted::is_chosen($name)
    };
}

#[cfg(ottla_planted)]
pub(crate) fn is_chosen(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("OTTLA_PLANTED").ok()).as_deref() == Some(name)
}
