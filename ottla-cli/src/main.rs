//! The `ottla` command.
#![allow(dead_code, reason = "the commands that use these follow as the client lands")]

mod text;

fn main() {}
