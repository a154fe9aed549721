//! The calotype command: runs a region and talks to one.

fn main() {}
