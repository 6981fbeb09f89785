//! Of the listeners of `tcp-proxy`.

use super::Text;
use proto::status::v1::TcpListener;

/// What they have counted.
pub(super) fn listeners(text: &mut Text, listeners: &[TcpListener]) {
    if listeners.is_empty() {
        return;
    }
    text.gauge("copal_tcp_connections_open", "Connections that are open.");
    for it in listeners {
        text.sample("", &[("listener", &it.name)], it.connections_open);
    }
    type Read = fn(&TcpListener) -> u64;
    let counts: [(&str, &str, Read); 5] = [
        ("copal_tcp_connections", "Connections that clients opened.", |it| it.connections),
        ("copal_tcp_connects_failed", "Connects to servers that failed.", |it| it.connects_failed),
        ("copal_tcp_timed_out", "Connections in which nothing moved.", |it| it.timed_out),
        ("copal_tcp_received_bytes", "Bytes of clients.", |it| it.received_bytes),
        ("copal_tcp_sent_bytes", "Bytes to clients.", |it| it.sent_bytes),
    ];
    for (name, help, read) in counts {
        text.counter(name, help);
        for it in listeners {
            text.sample("_total", &[("listener", &it.name)], read(it));
        }
    }
    text.counter("copal_tcp_refused", "Connections that were not passed on, by the reason.");
    for it in listeners {
        for refused in &it.refused {
            text.sample("_total", &[("listener", &it.name), ("why", &refused.why)], refused.count);
        }
    }
}
