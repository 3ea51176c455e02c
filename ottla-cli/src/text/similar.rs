//! What was meant, when there is no such thing.

/// The one of these names that differs least, if it is close enough to be what was meant.
pub(crate) fn similar<'a>(name: &str, all: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (letters, best) = all.into_iter().map(|known| (strsim::levenshtein(name, known), known)).min()?;
    (letters <= name.chars().count().div_ceil(4)).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::similar;

    #[test]
    fn what_is_close_is_what_was_meant() {
        let topics = ["orders", "refunds", "o"];
        for (name, meant) in [
            ("order", Some("orders")),
            ("Orders", Some("orders")),
            ("refunsd", Some("refunds")),
            ("payments", None),
            ("", None),
        ] {
            assert_eq!(similar(name, topics), meant, "{name}");
        }
        assert_eq!(similar("orders", []), None);
    }
}
