//! Which topics, or which of their partitions: `TOPIC`, `TOPIC:0,1`.

/// Partitions of a topic; all that are there if none are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) topic: String,
    pub(crate) partitions: Option<Vec<i32>>,
}

impl Chosen {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (topic, numbers) = match text.split_once(':') {
            Some((topic, numbers)) => (topic, Some(numbers)),
            None => (text, None),
        };
        if topic.is_empty() {
            return Err("the topic is missing".to_owned());
        }
        let number = |text: &str| {
            let number = text.parse().ok().filter(|number| *number >= 0);
            number.ok_or_else(|| format!("{text:?} is no partition: use TOPIC:0,1,2"))
        };
        let partitions = numbers.map(|numbers| numbers.split(',').map(number).collect()).transpose()?;
        Ok(Self { topic: topic.to_owned(), partitions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_chosen_whole_or_in_part() {
        let chosen = |topic: &str, partitions| Chosen { topic: topic.to_owned(), partitions };
        assert_eq!(Chosen::parse("orders"), Ok(chosen("orders", None)));
        assert_eq!(Chosen::parse("orders:2,0"), Ok(chosen("orders", Some(vec![2, 0]))));
        for wrong in ["", ":1", "orders:", "orders:-1", "orders:1,", "orders:x"] {
            assert!(Chosen::parse(wrong).is_err(), "{wrong}");
        }
    }
}
