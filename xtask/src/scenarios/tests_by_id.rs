//! Finds the tests of the workspace whose names begin with ids of scenarios.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Result;

/// How far above a function its `#[test]` may stand.
const ATTRIBUTES: usize = 4;

/// A test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    /// The file, from the workspace's folder.
    pub(crate) file: String,
    pub(crate) name: String,
}

impl Test {
    /// The name without its ids, as a sentence.
    pub(crate) fn says(&self) -> String {
        split(&self.name).1.replace('_', " ")
    }

    /// Whether it runs the whole client against a cluster, rather than one part of it.
    pub(crate) fn is_whole(&self) -> bool {
        self.file.starts_with("ottla-sim/") || self.file.starts_with("ottla/tests/")
    }
}

/// The tests of each scenario.
#[derive(Debug, Default)]
pub(crate) struct TestsById(BTreeMap<String, Vec<Test>>);

impl TestsById {
    /// Looks through all sources below `root`.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or a test names an id that is not `known`.
    pub(crate) fn find(root: &Path, known: &[&str]) -> Result<Self> {
        let mut found = Self::default();
        for file in sources(root)? {
            let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
            found.read(&name, &fs::read_to_string(&file)?, known)?;
        }
        found.0.values_mut().for_each(|tests| tests.sort());
        Ok(found)
    }

    fn read(&mut self, file: &str, source: &str, known: &[&str]) -> Result<()> {
        for name in test_names(source) {
            for id in split(name).0 {
                if !known.contains(&id.as_str()) {
                    return Err(format!("{file}: {name} names {id}, which is no scenario").into());
                }
                let test = Test { file: file.to_owned(), name: name.to_owned() };
                self.0.entry(id).or_default().push(test);
            }
        }
        Ok(())
    }

    /// The tests of one scenario.
    pub(crate) fn of(&self, id: &str) -> impl Iterator<Item = &Test> {
        self.0.get(id).into_iter().flatten()
    }
}

/// The Rust files of a folder and all folders in it, in order.
fn sources(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files.extend(sources(&path)?);
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// The functions with an attribute such as `#[test]` or `#[tokio::test(…)]`.
fn test_names(source: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_test = |line: &&str| line.starts_with("#[") && (line.contains("test]") || line.contains("test("));
    let names = lines.iter().enumerate().filter_map(|(index, line)| {
        let declared = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
        let above = &lines[index.saturating_sub(ATTRIBUTES)..index];
        let attributes =
            above.iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        attributes.clone().any(is_test).then(|| declared.split(['(', '<']).next()).flatten()
    });
    names.collect::<Vec<_>>().into_iter()
}

/// The ids that a name begins with, and the rest.
fn split(name: &str) -> (Vec<String>, &str) {
    let (mut ids, mut rest) = (Vec::new(), name);
    while let Some((id, behind)) = id_of(rest) {
        ids.push(id);
        rest = behind;
    }
    (ids, rest)
}

/// `p01_…` and `rp_a1_…`.
fn id_of(name: &str) -> Option<(String, &str)> {
    let (word, behind) = name.split_once('_')?;
    if word == "rp" {
        let (part, behind) = behind.split_once('_')?;
        return is_id(part).then(|| (format!("RP-{}", part.to_uppercase()), behind));
    }
    (is_id(word) && word.len() == 3).then(|| (word.to_uppercase(), behind))
}

fn is_id(word: &str) -> bool {
    let mut letters = word.chars();
    letters.next().is_some_and(|letter| letter.is_ascii_lowercase())
        && word.len() > 1
        && letters.all(|letter| letter.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_begins_with_its_ids() {
        assert_eq!(split("p01_p05_order_is_kept"), (vec!["P01".into(), "P05".into()], "order_is_kept"));
        assert_eq!(split("rp_a1_nothing_twice"), (vec!["RP-A1".into()], "nothing_twice"));
        assert_eq!(split("a_record_of_45_s"), (Vec::new(), "a_record_of_45_s"));
        assert_eq!(split("v2_is_written"), (Vec::new(), "v2_is_written"));
    }

    #[test]
    fn only_tests_count() {
        let source = "fn p01_helper() {}\n#[test]\nfn p02_one() {}\n\n#[tokio::test(start_paused = true)]\n\
                      async fn p03_two() {}\n#[test]\nfn helped() {}\nfn p04_no() {}";
        assert_eq!(test_names(source).collect::<Vec<_>>(), ["p02_one", "p03_two", "helped"]);
    }

    #[test]
    fn an_id_that_is_no_scenario_is_an_error() {
        let source = "#[test]\nfn p99_what() {}";
        assert!(TestsById::default().read("some.rs", source, &["P01"]).is_err());
    }
}
