//! Who is let in, who waits, and what is left behind.

use super::*;
use common::{clock::SystemClock, config::SiteUser};
use futures_util::FutureExt;

/// Of `password`, cheap.
const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm";

fn user(name: &str, hash: &str) -> SiteUser {
    SiteUser { name: name.into(), password: PasswordHash::parse(hash).unwrap() }
}

fn gate() -> PasswordGate {
    PasswordGate::new(Arc::new(SystemClock), [7; 32])
}

fn credentials(name: &str, password: &str) -> Credentials {
    Credentials { name: name.into(), password: password.into() }
}

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[tokio::test]
async fn the_right_password_is_let_in_and_remembered() {
    let (gate, users) = (gate(), [user("ops", HASH), user("other", HASH)]);
    for _ in 0..50 {
        assert_eq!(gate.admit(&users, &credentials("ops", "password"), HERE).await.unwrap().name, "ops");
    }
    assert_eq!(gate.failures(), 0);
    let remembers =
        |user: usize, password: &str| gate.remembers(&users[user], &credentials(&users[user].name, password));
    assert!(remembers(0, "password") && !remembers(0, "passwore") && !remembers(1, "password"));
}

#[tokio::test]
async fn a_changed_hash_forgets_the_old_password() {
    let gate = gate();
    let (before, after) = ([user("ops", HASH)], [user("ops", &HASH.replace("nf65", "nf66"))]);
    gate.admit(&before, &credentials("ops", "password"), HERE).await.unwrap();
    let refused = gate.admit(&after, &credentials("ops", "password"), HERE).await;
    assert!(matches!(refused, Err(Refused::Wrong)), "{refused:?}");
}

/// Names that go away with the file, as far as it has shrunk.
#[tokio::test]
async fn no_more_users_are_remembered_than_there_are() {
    let (gate, mut users) = (gate(), vec![user("ops", HASH), user("dev", BCRYPT)]);
    for name in ["ops", "dev"] {
        gate.admit(&users, &credentials(name, "password"), HERE).await.unwrap();
    }
    users[1].name = "new".to_owned();
    gate.admit(&users, &credentials("new", "password"), HERE).await.unwrap();
    let mut names: Vec<_> = lock(&gate.remembered).keys().cloned().collect();
    names.sort_unstable();
    assert_eq!(names, ["new", "ops"]);
    drop(gate.places_of(None));
    assert_eq!(
        lock(&gate.places).keys().cloned().collect::<Vec<_>>(),
        [None],
        "places are kept while they are taken"
    );
}

#[tokio::test]
async fn a_guess_at_something_else_counts_unless_it_was_none() {
    let gate = gate();
    for _ in 0..9 {
        gate.attempt(HERE).unwrap().was_none();
    }
    for n in 0..6 {
        let attempt = gate.attempt(HERE).unwrap();
        // One that is dropped has been no failure that is known, but it counts.
        if n > 0 {
            attempt.failed();
        }
    }
    assert!(matches!(gate.may_try(HERE), Err(Refused::Slowed(_))));
    assert_eq!((gate.failures(), gate.slowed()), (5, 1));
}

#[tokio::test]
async fn users_with_bcrypt_and_with_argon2id_are_let_in_side_by_side() {
    let (gate, users) = (gate(), [user("ops", HASH), user("old", BCRYPT)]);
    for name in ["ops", "old"] {
        let refused = gate.admit(&users, &credentials(name, "passwore"), HERE).await;
        assert_eq!(refused, Err(Refused::Wrong), "{name}");
        assert_eq!(gate.admit(&users, &credentials(name, "password"), HERE).await.unwrap().name, name);
    }
    assert_eq!(gate.admit::<SiteUser>(&[], &credentials("ops", "password"), HERE).await, Err(Refused::Wrong));
}

/// Whether the guess is right or not, remembered or not: who has to wait gets the same word, and so learns nothing.
#[tokio::test]
async fn a_slowed_address_hears_the_same_of_right_and_wrong_passwords_and_others_are_let_in() {
    let (gate, users) = (gate(), [user("ops", HASH)]);
    gate.admit(&users, &credentials("ops", "password"), HERE).await.unwrap();
    let guesser = IpAddr::from([192, 0, 2, 66]);
    for n in 0..6 {
        let guess = credentials(if n % 2 == 0 { "ops" } else { "nobody" }, "guess");
        let refused = gate.admit(&users, &guess, guesser).await;
        assert!(matches!(refused, Err(Refused::Wrong)), "{refused:?}");
    }
    for (name, password) in [("ops", "password"), ("ops", "guess"), ("nobody", "password")] {
        let refused = gate.admit(&users, &credentials(name, password), guesser).await;
        assert!(matches!(refused, Err(Refused::Slowed(_))), "{name} {password}: {refused:?}");
    }
    assert_eq!((gate.failures(), gate.slowed()), (6, 3));
    gate.admit(&users, &credentials("ops", "password"), HERE).await.unwrap();
}

/// Users whose hashes cost differently: whoever is named, each cost is paid once.
#[test]
fn the_same_work_is_done_for_every_name() {
    let users = [
        user("ops", HASH),
        user("dev", HASH),
        user("slow", &HASH.replace("t=2", "t=4")),
        user("old", BCRYPT),
    ];
    let costs = |name: &str| {
        let named = users.iter().find(|it| it.name == name);
        let mut hashes = one_of_each_cost(&users, named);
        assert!(named.is_none_or(|it| hashes.contains(&it.password)));
        hashes.sort_by_key(PasswordHash::cost);
        hashes.iter().map(PasswordHash::cost).collect::<Vec<_>>()
    };
    assert_eq!(costs("nobody").len(), 3);
    assert!(["ops", "dev", "slow", "old"].iter().all(|name| costs(name) == costs("nobody")));
}

#[tokio::test]
async fn a_password_of_another_user_is_wrong() {
    let gate = gate();
    let users = [user("ops", HASH), user("dev", &HASH.replace("nf65", "nf66").replace("t=2", "t=3"))];
    for name in ["dev", "nobody"] {
        let refused = gate.admit(&users, &credentials(name, "password"), HERE).await;
        assert!(matches!(refused, Err(Refused::Wrong)), "{name}: {refused:?}");
    }
    gate.admit(&users, &credentials("ops", "password"), HERE).await.unwrap();
}

/// Guesses at one user, or at names that are none's, from as many addresses as one likes.
#[tokio::test]
async fn who_fills_the_queue_of_one_user_keeps_no_other_out() {
    let (gate, users) = (gate(), [user("ops", HASH), user("dev", HASH)]);
    let (end, may_end) = std::sync::mpsc::channel::<()>();
    let may_end = Arc::new(Mutex::new(may_end));
    let mut asked = Vec::new();
    for name in [Some("ops"), None] {
        for _ in 0..PLACES {
            let may_end = Arc::clone(&may_end);
            let work = move || may_end.lock().unwrap().recv().is_ok();
            asked.push(Box::pin(gate.in_turn(gate.places_of(name), work)));
        }
    }
    assert!(asked.iter_mut().all(|it| it.as_mut().now_or_never().is_none()));
    for name in ["ops", "nobody"] {
        let refused = gate.admit(&users, &credentials(name, "password"), HERE).await;
        assert!(matches!(refused, Err(Refused::Crowded)), "{name}: {refused:?}");
    }
    let dev = credentials("dev", "password");
    let mut dev = Box::pin(gate.admit(&users, &dev, HERE));
    assert!(dev.as_mut().now_or_never().is_none(), "it waits for its turn");
    for _ in 0..asked.len() {
        end.send(()).unwrap();
    }
    let (let_in, all) = tokio::join!(dev, futures_util::future::join_all(asked));
    assert_eq!(let_in.unwrap().name, "dev");
    assert!(all.iter().all(Result::is_ok));
}

/// A client that goes away while its password is hashed does not make room for the next one.
#[tokio::test]
async fn the_turn_ends_with_the_hash_and_not_with_the_client() {
    let gate = gate();
    let (started, has_started) = std::sync::mpsc::channel();
    let (end, may_end) = std::sync::mpsc::channel::<()>();
    let may_end = Arc::new(Mutex::new(may_end));
    for n in 0..AT_ONCE {
        let (started, may_end) = (started.clone(), Arc::clone(&may_end));
        let places = gate.places_of(Some("ops"));
        let mut asked = Box::pin(gate.in_turn(places, move || {
            started.send(()).unwrap();
            may_end.lock().unwrap().recv().is_ok()
        }));
        // Polled once, and so begun; then the client is gone.
        assert!(asked.as_mut().now_or_never().is_none());
        assert_eq!(gate.turns.available_permits(), AT_ONCE - n - 1);
        drop(asked);
        assert_eq!(gate.turns.available_permits(), AT_ONCE - n - 1);
        assert_eq!(gate.places_of(Some("ops")).available_permits(), PLACES - n - 1);
    }
    for _ in 0..AT_ONCE {
        has_started.recv_timeout(Duration::from_secs(10)).unwrap();
        end.send(()).unwrap();
    }
    all_are_back(&gate).await;
}

/// The same of a whole sign-in, whose hash can't even begin as long as the only thread for it is taken.
#[test]
fn a_sign_in_that_is_dropped_midway_keeps_its_turn() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.max_blocking_threads(1).enable_time().build().unwrap().block_on(async {
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        let taken = tokio::task::spawn_blocking(move || may_end.recv());
        let (gate, users) = (gate(), [user("ops", HASH)]);
        let credentials = credentials("ops", "password");
        let mut asked = Box::pin(gate.admit(&users, &credentials, HERE));
        assert!(asked.as_mut().now_or_never().is_none());
        drop(asked);
        assert_eq!(gate.turns.available_permits(), AT_ONCE - 1);
        end.send(()).unwrap();
        taken.await.unwrap().unwrap();
        all_are_back(&gate).await;
    });
}

async fn all_are_back(gate: &PasswordGate) {
    let places = gate.places_of(Some("ops"));
    for (semaphore, all) in [(&gate.turns, AT_ONCE), (&places, PLACES)] {
        let permits = semaphore.acquire_many(u32::try_from(all).unwrap());
        let permits = tokio::time::timeout(Duration::from_secs(10), permits).await.unwrap().unwrap();
        assert_eq!(permits.num_permits(), all);
    }
}

/// A browser asks for a page's parts at once, before any of them has told that the password is right.
#[tokio::test]
async fn a_page_with_many_parts_is_let_in_by_one_hash() {
    let (gate, users) = (gate(), [user("ops", HASH)]);
    let right = credentials("ops", "password");
    let parts = (0..40).map(|_| gate.admit(&users, &right, HERE));
    let let_in = futures_util::future::join_all(parts).await;
    assert!(let_in.iter().all(Result::is_ok), "{let_in:?}");
    assert_eq!((gate.failures(), gate.slowed()), (0, 0));
    // The same guess many times is as many guesses.
    let wrong = credentials("ops", "passwore");
    let guesses = futures_util::future::join_all((0..12).map(|_| gate.admit(&users, &wrong, HERE))).await;
    assert!(guesses.iter().filter(|it| **it == Err(Refused::Wrong)).count() <= 6, "{guesses:?}");
    assert!(matches!(guesses.last(), Some(Err(Refused::Slowed(_)))), "{guesses:?}");
    assert!(lock(&gate.under_way).is_empty());
}
