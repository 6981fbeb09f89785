//! `share`: whether a request is one of a part of the users. What is drawn for a user is a number of 0 to 9999, kept in his cookie: who is
//! in a part of 5 % is in one of 20 % too.

use super::condition::Subject;
use crate::upstream::pool::Owner;
use common::{
    config::{CookieConfig, Share, ShareBy},
    cookie, rendezvous,
};
use std::cell::RefCell;

/// Hundredths of a percent in all.
const ALL: u16 = 10_000;

/// What has been drawn for a request so far, for cookies that it does not have.
#[derive(Debug, Default)]
pub(super) struct Draws(RefCell<Vec<Draw>>);

#[derive(Debug)]
struct Draw {
    cookie: String,
    number: u16,
    /// The value of the `Set-Cookie` that keeps it.
    set_cookie: String,
}

impl Draws {
    /// The number of a user who has no cookie of this name yet: one for all conditions.
    fn number(&self, name: &str, attributes: &CookieConfig, secure: bool) -> u16 {
        let mut draws = self.0.borrow_mut();
        if let Some(known) = draws.iter().find(|it| it.cookie == name) {
            return known.number;
        }
        let number = rand::random_range(0..ALL);
        let set_cookie = format!("{name}={number}{}", cookie::attributes(attributes, secure));
        draws.push(Draw { cookie: name.to_owned(), number, set_cookie });
        number
    }

    /// The values of the `Set-Cookie` fields that keep them.
    pub(super) fn into_cookies(self) -> Vec<String> {
        self.0.into_inner().into_iter().map(|it| it.set_cookie).collect()
    }
}

/// Whether a request is one of the part.
pub(super) fn has(share: &Share, subject: &Subject<'_>) -> bool {
    let number = match &share.by {
        ShareBy::RemoteAddr => of_address(Owner::from(subject.view.remote)),
        ShareBy::Cookie(name, attributes) => {
            let mut found = None;
            subject.view.headers.for_each("cookie", &mut |line| {
                found = found.or_else(|| cookie::values(line, name).find_map(number_of));
            });
            found.unwrap_or_else(|| subject.draws.number(name, attributes, subject.view.secure))
        }
    };
    number < share.share
}

/// One request in so many, whoever asks.
pub(super) fn drawn(share: u16) -> bool {
    share >= ALL || rand::random_range(0..ALL) < share
}

/// Another value is none: somebody else's, or from another time.
fn number_of(value: &str) -> Option<u16> {
    let digits = value.bytes().all(|it| it.is_ascii_digit());
    value.parse().ok().filter(|number| digits && *number < ALL)
}

/// The same on every web-tier.
fn of_address(owner: Owner) -> u16 {
    let number = rendezvous::mixed(owner.number().wrapping_add(0x9e37_79b9_7f4a_7c15)) % u64::from(ALL);
    u16::try_from(number).unwrap_or_default()
}
