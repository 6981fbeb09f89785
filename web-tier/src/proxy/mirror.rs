//! `mirror`: sends a copy of a request to a server of another cluster, and throws its answer away. The client's own request waits for
//! nothing of it.

use super::{Way, prepare::prepare, try_servers};
use crate::{
    http1::{Fields, Length, Name, RequestHead},
    proxy::cached::Nobody,
    route::{rules::Edit, trusted::Asker},
    upstream::{Upstream, sticky::Stickiness},
    worker::client::Client,
};
use common::config::Strategy;
use std::{net::IpAddr, rc::Rc, time::Duration};
use tokio::{task::spawn_local, time::timeout};

/// How long a copy may take until its answer's head is there.
const WAIT: Duration = Duration::from_secs(30);

/// So many copies of a worker are under way at a time: a cluster that is slow to take them gets fewer.
const MOST: u64 = 256;

/// By what a server knows a copy.
const MARK: &[u8] = b"x-mirrored";

/// Sends copies to each of `clusters`. `body` is all of the body; one that is not there yet leaves with the request alone.
pub(super) fn send(
    client: &Rc<Client>,
    (asker, clusters): (&Asker<'_>, &[Rc<Upstream>]),
    head: &RequestHead,
    edits: &[Edit<'_>],
    body: Option<&[u8]>,
) {
    let counters = &client.worker.counters;
    for upstream in clusters {
        let is_whole = head.length == Length::Empty || body.is_some();
        if counters.mirrors_active.read() >= MOST || head.connection.upgrade || !is_whole {
            counters.mirrors_left_out.up();
            continue;
        }
        let (client, mut copied) = (client.stream(), head.copy());
        (copied.length, copied.connection) = (head.length, head.connection);
        copied.fields.push(Name::Other, MARK, b"1");
        let copy = Copy { upstream: upstream.clone(), address: asker.address, client, head: copied };
        spawn_local(copy.run(asker, edits, body));
    }
}

/// Takes off what a client itself says of it.
pub(super) fn remove_mark(fields: &mut Fields) {
    fields.remove_if(|field| Name::is_alike(field.name, MARK));
}

/// A copy on its way.
struct Copy {
    upstream: Rc<Upstream>,
    address: IpAddr,
    client: Rc<Client>,
    head: RequestHead,
}

impl Copy {
    fn way<'a>(upstream: &'a Rc<Upstream>, stickiness: &'a Stickiness) -> Way<'a> {
        let strategy = Strategy::Adaptive;
        Way {
            upstream,
            strategy,
            sticky: false,
            stickiness,
            session_url: None,
            mirrors: &[],
            knows_user: false,
            hash: None,
        }
    }

    /// Writes the copy at once, and sends it when the future that is returned runs.
    fn run(
        mut self,
        asker: &Asker<'_>,
        edits: &[Edit<'_>],
        body: Option<&[u8]>,
    ) -> impl Future<Output = ()> + 'static {
        let way = Self::way(&self.upstream, &Stickiness::None);
        let mut outgoing = prepare(&self.client, asker, &way, &mut self.head, edits);
        if let Some(body) = body {
            outgoing.put_body(body);
        }
        async move {
            let Self { upstream, address, client, mut head } = self;
            let counters = &client.worker.counters;
            counters.mirrors_active.up();
            counters.mirrored.up();
            let _active = Active(&client);
            let way = Self::way(&upstream, &Stickiness::None);
            let mut nobody = Nobody;
            let sending = try_servers(&client, &way, &mut head, (outgoing, address), &mut nobody);
            match timeout(WAIT, sending).await {
                Ok(Ok(passed)) => passed.discard(&head.method),
                Ok(Err(cause)) => tracing::debug!(%cause, "a copy of a request has no answer"),
                Err(_) => tracing::debug!("a copy of a request has no answer in time"),
            }
        }
    }
}

/// Counts a copy as long as it is under way.
struct Active<'a>(&'a Client);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.worker.counters.mirrors_active.down();
    }
}
