//! The cluster of the model, and all that can happen next in it.

use super::{
    super::{Alone, State, Witness},
    step::{Leader, Link, Step},
};
use common::witness::Times;
use proto::hub::v1::{Alive, Snapshot, event::Event};
use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
    time::{Duration, Instant},
};
use triad_client::Pulse;

/// By what the cluster goes, and what it does wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) times: &'static Times,
    /// What can be cut.
    pub(super) links: &'static [Link],
    /// A leader speaks to its watchers without a majority, and they stay with it.
    pub(super) unconfirmed_counts: bool,
    /// A sign of life counts from when it comes, not from when it was asked for.
    pub(super) signs_count_when_they_come: bool,
    /// An answer does not say that it rests on memory.
    pub(super) answers_hide_their_age: bool,
    /// A copy is served from memory though events were missed since it was verified.
    pub(super) copies_outlive_missed_events: bool,
}

/// So many ticks late is what `a` hears on a slow link.
const LAG: u64 = 2;

/// A server that watches the hub.
#[derive(Debug, Clone)]
struct Watcher {
    pulse: Pulse,
    follows: Option<Leader>,
    /// When the last sign of life came, or the leader was found.
    came: u64,
    /// What is under way back, in order, and when it arrives if nothing is cut.
    said: VecDeque<(u64, Said)>,
    /// The session has moved, which the leader that is followed does not know, or which was not followed then.
    missed: bool,
}

/// What a leader says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Said {
    Sign(u64),
    Moved,
}

/// The session in the app server's memory.
#[derive(Debug, Clone, Copy)]
struct Copy {
    value: u8,
    /// The hub's value that it was made on.
    base: u8,
    epoch: u64,
    stale: bool,
}

/// The user's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    None,
    AtA(Witness),
    /// On its way back: with how long `a` had not heard the hub, if it rests on memory.
    Answer(u8, Option<Duration>),
    AtB,
}

/// Everything.
#[derive(Debug, Clone)]
pub(super) struct World {
    rules: Rules,
    start: Instant,
    pub(super) now: u64,
    cuts_left: u8,
    /// Something was cut.
    is_disturbed: bool,
    /// A request was sent in this tick.
    asked: bool,
    cut: u8,
    /// The hub's value, and whether `a` has it.
    value: u8,
    is_with_a: bool,
    elected: bool,
    /// When the others heard of the first leader last, and it of them.
    acknowledged: u64,
    link: State,
    a: Watcher,
    web: Watcher,
    /// Whose sign of life `a` goes by.
    word_of: Leader,
    copy: Copy,
    request: Request,
    /// The last value that the user has seen.
    seen: u8,
    /// When the hub's value became newer than the copy, and by whom.
    outdated: Option<(u64, Leader)>,
    /// When the web-tier was last cut off from whoever led or could have been elected.
    web_cut_off: Option<u64>,
    /// The user was answered from memory in one of the gaps that are known: what he sees next may be older.
    pub(super) is_forgiven: bool,
    pub(super) wrong: Option<String>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Watcher {
    fn new(times: &'static Times, start: Instant) -> Self {
        let pulse = Pulse::new(times, start);
        Self { pulse, follows: Some(Leader::Old), came: 0, said: VecDeque::new(), missed: false }
    }

    /// The leader says something, which takes so long.
    fn tell(&mut self, said: Said, now: u64, lag: u64) {
        let before = self.said.back().map_or(0, |(arrives, _)| *arrives);
        self.said.push_back((before.max(now + lag), said));
    }

    /// All that differs between watchers of the same time: all have asked as often.
    fn key(&self) -> impl Hash + '_ {
        (self.pulse.heard(), self.follows, self.came, &self.said, self.missed)
    }

    fn has_moved(&self) -> bool {
        self.said.iter().any(|(_, said)| *said == Said::Moved)
    }

    /// What has arrived.
    fn hear(&mut self, now: u64) -> Option<Said> {
        self.said.pop_front_if(|(arrives, _)| *arrives <= now).map(|(_, said)| said)
    }
}

impl World {
    /// All is well, and `a` has the session in memory.
    pub(super) fn new(rules: Rules, cuts: u8) -> Self {
        let start = Instant::now();
        let watcher = Watcher::new(rules.times, start);
        let mut world = Self {
            rules,
            start,
            now: 0,
            cuts_left: cuts,
            is_disturbed: false,
            asked: false,
            cut: 0,
            value: 1,
            is_with_a: true,
            elected: false,
            acknowledged: 0,
            link: State::new(rules.times, start, true),
            a: watcher.clone(),
            web: watcher,
            word_of: Leader::Old,
            copy: Copy { value: 1, base: 1, epoch: 0, stale: false },
            request: Request::None,
            seen: 1,
            outdated: None,
            web_cut_off: None,
            is_forgiven: false,
            wrong: None,
        };
        world.pass(false);
        world
    }

    /// What matters of it: not how far all have counted.
    fn key(&self) -> impl Hash + '_ {
        let Copy { value, base, epoch, stale } = self.copy;
        let relative = |it: u8| i16::from(it) - i16::from(self.value);
        let counts = (relative(value), relative(base), relative(self.seen), epoch, stale);
        let hub = (self.is_with_a, self.elected, self.acknowledged, self.cuts_left, self.cut);
        let request = match self.request {
            Request::Answer(value, age) => (None, Some((relative(value), age)), false),
            Request::AtA(witness) => (Some(witness), None, false),
            Request::AtB => (None, None, true),
            Request::None => (None, None, false),
        };
        let State { alive, witness, .. } = self.link;
        let servers = (alive, witness, self.link.epoch, self.a.key(), self.web.key(), self.word_of);
        (self.now, hub, servers, counts, request, self.asked, self.outdated, self.web_cut_off)
    }

    /// All that can happen next. What becomes of a request is no matter of time, but for one that waits: an answer that leaves later
    /// has only more against it.
    pub(super) fn steps(&self) -> Vec<(Step, Self)> {
        if let Some(step) = self.step_of_request() {
            return vec![step];
        }
        let mut steps = Vec::new();
        let mut add = |step, change: &dyn Fn(&mut Self)| steps.push((step, self.changed(change)));
        if self.request == Request::None && !self.asked {
            add(Step::AsksA, &Self::ask_a);
            add(Step::AsksB, &Self::ask_b);
        }
        if !self.elected && !self.is_cut(Link::All) && self.now - self.acknowledged >= self.election() {
            add(Step::Elected, &|it| it.elected = true);
        }
        if self.cuts_left > 0 {
            for link in self.rules.links.iter().copied() {
                let step = if self.is_cut(link) { Step::Heal(link) } else { Step::Cut(link) };
                add(step, &|it| it.toggle(link));
            }
        }
        // As long as all is well every tick is like the one before. The others elect another one as soon as they can, or in the tick
        // after that.
        let must_elect =
            !self.elected && !self.is_cut(Link::All) && self.now - self.acknowledged > self.election();
        if self.is_disturbed && !must_elect {
            add(Step::Tick(self.now + 1), &|it| it.tick(false));
            if self.a.missed {
                add(Step::TickMissed(self.now + 1), &|it| it.tick(true));
            }
        }
        steps
    }

    fn step_of_request(&self) -> Option<(Step, Self)> {
        let (step, next) = match self.request {
            Request::None => return None,
            Request::AtA(witness) => self.served_by_a(witness)?,
            Request::Answer(_, age) if self.keeps_back(age) => {
                (Step::KeptBack, self.changed(&|it| it.request = Request::AtB))
            }
            Request::Answer(value, age) => {
                (Step::Given(value), self.changed(&|it| it.give(value, age.is_some())))
            }
            Request::AtB => match self.leader() {
                Some(leader) => {
                    let counted = self.changed(&|it| it.count_on_b(leader));
                    (Step::CountsElsewhere(counted.value), counted)
                }
                None => (Step::Fails, self.changed(&|it| it.request = Request::None)),
            },
        };
        Some((step, next))
    }

    fn changed(&self, change: &dyn Fn(&mut Self)) -> Self {
        let mut next = self.clone();
        change(&mut next);
        next.check();
        next
    }

    fn election(&self) -> u64 {
        u64::try_from(self.rules.times.election.as_millis()).unwrap()
    }

    fn at(&self, tick: u64) -> Instant {
        self.start + Duration::from_millis(tick)
    }

    fn instant(&self) -> Instant {
        self.at(self.now)
    }

    fn is_cut(&self, link: Link) -> bool {
        self.cut & (1 << link as u8) != 0
    }

    fn toggle(&mut self, link: Link) {
        self.cut ^= 1 << link as u8;
        self.cuts_left -= 1;
        self.is_disturbed = true;
        self.look();
    }

    /// Who can write, if anybody can.
    fn leader(&self) -> Option<Leader> {
        match (self.elected, self.is_cut(Link::All), self.is_cut(Link::Hub)) {
            (true, false, _) => Some(Leader::New),
            (false, false, false) => Some(Leader::Old),
            _ => None,
        }
    }

    /// Whether this one gives signs of life.
    fn vouches(&self, leader: Leader) -> bool {
        let ago = Duration::from_millis(self.now - self.acknowledged);
        match leader {
            Leader::Old => !self.elected_knows() && ago < self.rules.times.confirmed,
            Leader::New => self.elected && !self.is_cut(Link::All),
        }
    }

    /// The first leader has heard that there is another.
    fn elected_knows(&self) -> bool {
        self.elected && !self.is_cut(Link::Hub)
    }

    fn tick(&mut self, as_snapshot: bool) {
        (self.now, self.asked) = (self.now + 1, false);
        self.pass(as_snapshot);
        self.forget();
    }

    /// Forgets what makes no difference any more, so that there are fewer states.
    fn forget(&mut self) {
        let (now, heard) = (self.instant(), self.heard_by_a());
        self.web_cut_off = self.web_cut_off.filter(|at| self.at(*at) >= heard);
        if self.link.recent(now).is_none() {
            self.link.witness = None;
        }
        if self.elected && !self.vouches(Leader::Old) {
            self.acknowledged = 0;
        }
    }

    fn heard_by_a(&self) -> Instant {
        self.instant() - self.link.age(self.instant())
    }

    /// What happens by itself: questions, signs of life and events go where nothing is cut, and unsaved changes to the hub.
    fn pass(&mut self, as_snapshot: bool) {
        if !self.elected && !self.is_cut(Link::Hub) && !self.is_cut(Link::All) {
            self.acknowledged = self.now;
        }
        let (app, web) = ([Link::AppOld, Link::AppNew], [Link::Web, Link::Web]);
        let mut a = self.a.clone();
        // What has just come is heard before anybody calls it silent.
        if a.follows.is_some_and(|it| !self.is_cut(app[it as usize])) {
            self.a_hears(&mut a);
        }
        if self.exchange(&mut a, app, as_snapshot, self.lag()) {
            self.a_hears(&mut a);
        }
        self.a = a;
        let mut web_tier = self.web.clone();
        if self.exchange(&mut web_tier, web, false, 0) {
            while let Some(said) = web_tier.hear(self.now) {
                if let Said::Sign(number) = said {
                    web_tier.pulse.hear(number, self.instant());
                    web_tier.came = self.now;
                }
            }
        }
        self.web = web_tier;
        if self.copy.value != self.copy.base && self.reach_of_a().is_some() {
            self.save();
        }
        self.look();
    }

    /// Lets a watcher ask, leave a silent leader, and find another. Returns whether what the leader says comes now.
    fn exchange(&mut self, watcher: &mut Watcher, links: [Link; 2], as_snapshot: bool, lag: u64) -> bool {
        let now = self.instant();
        // One that follows nobody asks too, in vain: a question less would be another state.
        let question = watcher.pulse.ask(now);
        let link = |leader: Leader| links[leader as usize];
        if watcher.pulse.is_silent(now) || watcher.follows.is_some_and(|it| self.is_deposed(it, link(it))) {
            let talks = |it| it == Leader::Old && !self.is_cut(link(it)) && self.rules.unconfirmed_counts;
            if !watcher.follows.is_some_and(talks) {
                watcher.missed |= watcher.has_moved();
                watcher.follows = None;
                watcher.said.clear();
            }
        }
        if watcher.follows.is_none() {
            let found = self.leader().filter(|it| !self.is_cut(link(*it)));
            let Some(found) = found else { return false };
            watcher.follows = Some(found);
            watcher.pulse.follow(now);
            watcher.came = self.now;
            if std::mem::take(&mut watcher.missed) {
                if as_snapshot {
                    self.link.heard(&Event::Snapshot(Snapshot::default()), None);
                } else {
                    watcher.tell(Said::Moved, self.now, lag);
                }
            }
        }
        let Some(leader) = watcher.follows else { return false };
        if self.is_cut(link(leader)) {
            return false;
        }
        if self.vouches(leader) {
            watcher.tell(Said::Sign(question), self.now, lag);
        }
        true
    }

    /// How long it takes until `a` hears what a leader says.
    fn lag(&self) -> u64 {
        if self.is_cut(Link::Late) { LAG } else { 0 }
    }

    /// A stream's end is heard of at once, where it can be.
    fn is_deposed(&self, leader: Leader, link: Link) -> bool {
        leader == Leader::Old && self.elected_knows() && !self.is_cut(link)
    }

    fn a_hears(&mut self, a: &mut Watcher) {
        while let Some(said) = a.hear(self.now) {
            let Said::Sign(number) = said else {
                self.copy.stale = true;
                continue;
            };
            let mut sent = a.pulse.hear(number, self.instant());
            a.came = self.now;
            if self.rules.signs_count_when_they_come {
                sent = sent.map(|_| self.instant());
            }
            self.link.heard(&Event::Alive(Alive { number }), sent);
            self.word_of = a.follows.unwrap_or(self.word_of);
        }
    }

    fn look(&mut self) {
        if self.is_cut(Link::Web) || self.is_cut(Link::All) {
            self.web_cut_off = Some(self.now);
        }
    }

    fn ask_b(&mut self) {
        self.asked = true;
        self.request = Request::AtB;
    }

    fn ask_a(&mut self) {
        self.asked = true;
        let now = self.instant();
        let age = self.web.pulse.heard().map(|heard| now - heard);
        self.request = Request::AtA(self.link.testify(now, age));
    }

    /// Whether `a` reaches who can write.
    fn reach_of_a(&self) -> Option<Leader> {
        let is_reached = |it: &Leader| match it {
            Leader::Old => !self.is_cut(Link::AppOld) && !self.is_cut(Link::Late),
            Leader::New => !self.is_cut(Link::AppNew) && !self.is_cut(Link::Late),
        };
        self.leader().filter(is_reached)
    }

    /// What becomes of the request at `a` now; `None` while it waits.
    fn served_by_a(&self, witness: Witness) -> Option<(Step, Self)> {
        if self.reach_of_a().is_some() {
            let next = self.changed(&|it| {
                it.save();
                it.hold(it.value + 1);
                it.request = Request::Answer(it.value, None);
            });
            return Some((Step::Counts(next.value), next));
        }
        let now = self.instant();
        let is_last_known = self.copy.epoch == self.link.epoch || self.rules.copies_outlive_missed_events;
        match self.link.alone(now, witness) {
            Alone::NotYet(_) => None,
            Alone::Yes if is_last_known && !self.copy.stale => {
                let next = self.changed(&|it| {
                    it.copy.value += 1;
                    it.request = Request::Answer(it.copy.value, Some(it.link.age(now)));
                });
                Some((Step::FromMemory(next.copy.value), next))
            }
            Alone::Yes | Alone::No => Some((Step::Refuses, self.changed(&|it| it.request = Request::AtB))),
        }
    }

    /// What `a` has changed on its own goes to the hub, unless that has something newer.
    fn save(&mut self) {
        let value = if self.copy.base == self.value { self.copy.value } else { self.value };
        self.hold(value);
    }

    /// The hub has this value, from `a`, which knows it.
    fn hold(&mut self, value: u8) {
        (self.value, self.is_with_a, self.outdated) = (value, true, None);
        self.copy = Copy { value, base: value, epoch: self.link.epoch, stale: false };
        self.a.said.retain(|(_, said)| *said != Said::Moved);
        self.a.missed = false;
    }

    fn count_on_b(&mut self, leader: Leader) {
        self.value += 1;
        if std::mem::take(&mut self.is_with_a) {
            if self.a.follows == Some(leader) {
                self.a.tell(Said::Moved, self.now, self.lag());
            } else {
                self.a.missed = true;
            }
        }
        self.outdated = self.outdated.or(Some((self.now, leader)));
        self.give(self.value, false);
    }

    fn keeps_back(&self, age: Option<Duration>) -> bool {
        let own = self.web.pulse.heard().map(|heard| self.instant() - heard);
        let is_ahead = |own, age| self.rules.times.is_ahead(own, age);
        let said = age.filter(|_| !self.rules.answers_hide_their_age);
        matches!((own, said), (Some(own), Some(age)) if is_ahead(own, age))
    }

    /// The user gets an answer.
    fn give(&mut self, value: u8, is_from_memory: bool) {
        self.request = Request::None;
        let heard = self.heard_by_a();
        let in_gap = is_from_memory && self.web_cut_off.is_some_and(|at| self.at(at) >= heard);
        // What was changed before the last sign of life `a` should have known.
        let was_told = self.outdated.is_some_and(|(at, _)| self.at(at) < heard);
        if value <= self.seen && (!in_gap || was_told) {
            self.wrong = Some(format!("the user gets {value} after {}", self.seen));
        }
        self.seen = value;
        self.is_forgiven = in_gap;
    }

    /// What has to hold at all times: what `a` takes for current is not older than a sign of life may be, and misses nothing that
    /// another leader than the one it goes by has acknowledged.
    fn check(&mut self) {
        let Some((since, by)) = self.outdated else { return };
        let believes =
            !self.copy.stale && self.copy.epoch == self.link.epoch && self.link.is_current(self.instant());
        let is_late = self.instant() - self.at(since) > self.rules.times.believed;
        if believes && (is_late || by != self.word_of) {
            let (value, newer) = (self.copy.value, self.value);
            self.wrong = Some(format!("a believes in {value}, the hub has had {newer} since {since}"));
        }
    }
}
