//! A.
fn main(){}
