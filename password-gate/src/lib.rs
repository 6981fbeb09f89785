//! Lets users in by password. [`Credentials`] are what a request brings (HTTP Basic), a [`PasswordGate`] says whose they are, and
//! [`htpasswd`] reads a file of users.

mod basic;
mod gate;
pub mod htpasswd;
mod throttle;

pub use basic::Credentials;
pub use common::password::{PasswordHash, PasswordUser};
pub use gate::{Attempt, PasswordGate, Refused};
