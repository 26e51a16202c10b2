//! (follows)

#[derive(Debug)]
pub struct Hba;
#[derive(Debug)]
pub struct HbaConnection;
