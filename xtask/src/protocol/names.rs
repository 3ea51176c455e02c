//! Names of Kafka's definitions in Rust's style.

/// `ZkMigrationReady` becomes `zk_migration_ready`.
pub(crate) fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let after_lower = index > 0 && !letters[index - 1].is_uppercase();
        let before_lower = letters.get(index + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && index > 0 && (after_lower || before_lower) {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// The name of a struct's field, with `r#` if it is a keyword.
pub(crate) fn field(name: &str) -> String {
    match snake(name).as_str() {
        keyword @ ("type" | "match" | "ref" | "move" | "self") => format!("r#{keyword}"),
        name => name.to_owned(),
    }
}

/// `FetchRequest` and `FetchResponse` become `FETCH`.
pub(crate) fn api_key(message: &str) -> String {
    let api = message.strip_suffix("Request").or_else(|| message.strip_suffix("Response")).unwrap_or(message);
    snake(api).to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::{api_key, field, snake};

    #[test]
    fn splits_words() {
        assert_eq!(snake("ZkMigrationReady"), "zk_migration_ready");
        assert_eq!(snake("ISRNodes"), "isr_nodes");
        assert_eq!(field("Type"), "r#type");
        assert_eq!(api_key("OffsetForLeaderEpochRequest"), "OFFSET_FOR_LEADER_EPOCH");
    }
}
