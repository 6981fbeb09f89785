//! A network of the test's own: a bridge, and a namespace with an address for each server, whose cable can be pulled.

use std::{
    net::Ipv4Addr,
    process::{Command, Stdio},
};

/// Removed, with all its namespaces, when dropped.
#[derive(Debug)]
pub(crate) struct Network {
    number: u8,
    servers: Vec<String>,
}

impl Network {
    /// A namespace for each server; `None` where the system does not allow it.
    pub(crate) fn build(servers: Vec<String>) -> Option<Self> {
        let mut network = Self { number: 0, servers: Vec::new() };
        // Another test may have the same number.
        network.number = (0..20)
            .map(|_| rand::random())
            .find(|number| ip(&format!("link add {} type bridge", bridge(*number))))?;
        let bridge = bridge(network.number);
        let gateway = network.address(0);
        let mut built =
            ip(&format!("addr add {gateway}/24 dev {bridge}")) && ip(&format!("link set {bridge} up"));
        for id in servers {
            network.servers.push(id);
            built &= network.plug(network.servers.len());
        }
        built.then_some(network)
    }

    /// The cable of the server at this place, counted from 1.
    fn plug(&self, place: usize) -> bool {
        let (namespace, cable, bridge) = (self.namespace(place), self.cable(place), bridge(self.number));
        let address = self.address(place);
        [
            format!("netns add {namespace}"),
            format!("link add {cable} type veth peer name eth0 netns {namespace}"),
            format!("link set {cable} master {bridge} up"),
            format!("-n {namespace} addr add {address}/24 dev eth0"),
            format!("-n {namespace} link set eth0 up"),
            format!("-n {namespace} link set lo up"),
        ]
        .iter()
        .all(|command| ip(command))
    }

    /// The servers' addresses, in order.
    pub(crate) fn addresses(&self) -> Vec<Ipv4Addr> {
        (1..=self.servers.len()).map(|place| self.address(place)).collect()
    }

    /// The namespace of a server, as `ip netns exec` takes it.
    pub(crate) fn namespace_of(&self, id: &str) -> String {
        self.namespace(self.place(id))
    }

    /// Pulls a server's cable: what it sends and what is sent to it is lost, without a word to anyone.
    pub(crate) fn cut(&self, id: &str) {
        assert!(ip(&format!("link set {} down", self.cable(self.place(id)))));
    }

    /// Plugs it in again.
    pub(crate) fn mend(&self, id: &str) {
        assert!(ip(&format!("link set {} up", self.cable(self.place(id)))));
    }

    /// Loses what goes between a server and these others, either way; it reaches, and is reached by, all that are not named.
    pub(crate) fn part(&self, id: &str, others: &[&str]) {
        self.routes(id, others, "add");
    }

    /// Joins them again.
    pub(crate) fn join(&self, id: &str, others: &[&str]) {
        self.routes(id, others, "del");
    }

    fn routes(&self, id: &str, others: &[&str], verb: &str) {
        for other in others {
            for (from, to) in [(id, *other), (*other, id)] {
                let (namespace, address) = (self.namespace_of(from), self.address(self.place(to)));
                assert!(ip(&format!("-n {namespace} route {verb} blackhole {address}/32")));
            }
        }
    }

    fn place(&self, id: &str) -> usize {
        1 + self.servers.iter().position(|it| it == id).unwrap()
    }

    fn address(&self, place: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, u8::try_from(place + 1).unwrap())
    }

    fn namespace(&self, place: usize) -> String {
        format!("copal-it-{}-{place}", self.number)
    }

    fn cable(&self, place: usize) -> String {
        format!("cpit{}-{place}", self.number)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for place in 1..=self.servers.len() {
            ip(&format!("netns del {}", self.namespace(place)));
        }
        ip(&format!("link del {}", bridge(self.number)));
    }
}

fn bridge(number: u8) -> String {
    format!("cpit{number}")
}

fn ip(arguments: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
