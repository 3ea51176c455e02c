//! Versions as conditions of Rust.

use super::schema::Versions;

/// In which versions something holds, as Rust; the versions that cannot occur do not matter.
pub(crate) enum Condition {
    Always,
    Never,
    When { yes: String, no: String },
}

impl Condition {
    pub(crate) fn expression(self) -> String {
        match self {
            Self::Always => "true".to_owned(),
            Self::Never => "false".to_owned(),
            Self::When { yes, .. } => yes,
        }
    }

    pub(crate) fn always_or_never(&self) -> bool {
        !matches!(self, Self::When { .. })
    }
}

/// `versions` as a condition, where only `possible` can occur.
pub(crate) fn condition(versions: Versions, possible: Versions) -> Condition {
    let both = versions.intersect(possible);
    if both.is_empty() {
        return Condition::Never;
    }
    let Versions { low, high } = both;
    let (yes, no) = match (low == possible.low, high == possible.high) {
        (true, true) => return Condition::Always,
        (false, true) => (format!("version >= {low}"), format!("version < {low}")),
        (true, false) => (format!("version <= {high}"), format!("version > {high}")),
        (false, false) => {
            let range = format!("({low}..={high}).contains(&version)");
            (range.clone(), format!("!{range}"))
        }
    };
    Condition::When { yes, no }
}

#[cfg(test)]
mod tests {
    use super::{Condition, condition};
    use crate::protocol::schema::Versions;

    fn expression(versions: &str, possible: &str) -> String {
        condition(Versions::parse(versions).unwrap(), Versions::parse(possible).unwrap()).expression()
    }

    #[test]
    fn what_is_always_or_never_true_is_not_asked() {
        assert_eq!(expression("0+", "4-18"), "true");
        assert_eq!(expression("4-18", "4-18"), "true");
        assert_eq!(expression("0-3", "4-18"), "false");
        assert_eq!(expression("none", "4-18"), "false");
    }

    #[test]
    fn only_the_ends_that_matter_are_asked() {
        assert_eq!(expression("7+", "4-18"), "version >= 7");
        assert_eq!(expression("0-14", "4-18"), "version <= 14");
        assert_eq!(expression("7-14", "4-18"), "(7..=14).contains(&version)");
    }

    #[test]
    fn the_opposite_is_the_opposite() {
        let Condition::When { no, .. } =
            condition(Versions { low: 7, high: 14 }, Versions { low: 4, high: 18 })
        else {
            panic!("a condition");
        };
        assert_eq!(no, "!(7..=14).contains(&version)");
    }
}
