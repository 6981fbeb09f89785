//! `traces`: where spans of requests are sent, and of how many requests.

use super::{
    decode::{Context, Fields},
    keys,
    model::Traces,
    node::Node,
};

/// Of so many new traces the rate counts.
const MILLION: f64 = 1_000_000.0;

/// One trace of a hundred.
const SAMPLE: u32 = 10_000;

/// Reads the file's key; `None`: there are no spans.
pub(super) fn decode(fields: &Fields<'_>) -> Option<Traces> {
    let node = fields.get("traces").filter(|node| !node.is_null())?;
    let traces = Fields::open(fields.context, node, &keys::TRACES)?;
    let node = traces.required("otlp", "name the collector, such as http://127.0.0.1:4317")?;
    let otlp = traces.context.checked(node, collector)?;
    let sample = match traces.get("sample") {
        Some(node) => share(traces.context, node)?,
        None => SAMPLE,
    };
    Some(Traces { otlp, sampled_ppm: sample })
}

/// A share from 0 to 1, of a million.
pub(super) fn share(context: Context<'_>, node: &Node) -> Option<u32> {
    context.checked(node, |text| ppm(text).map(drop)).and_then(|it| ppm(&it).ok())
}

fn collector(text: &str) -> Result<(), String> {
    let authority = text.strip_prefix("http://").map(|it| it.trim_end_matches('/'));
    let is_one = |it: &&str| {
        it.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    let plain = |it: &&str| !it.contains(['/', '@', '?', '#', ' ']);
    let expected = "`http://host:port` of a collector that takes OTLP over gRPC (without TLS: one on this machine, or in a network of your own)";
    authority
        .filter(is_one)
        .filter(plain)
        .map(drop)
        .ok_or_else(|| format!("expected {expected}, found \"{text}\""))
}

/// A rate from 0 to 1, of a million.
fn ppm(text: &str) -> Result<u32, String> {
    let rate = text.parse::<f64>().ok().filter(|it| (0.0..=1.0).contains(it));
    let rate = rate.ok_or_else(|| format!("expected a rate from 0 to 1, such as 0.01, found \"{text}\""))?;
    Ok((rate * MILLION).round() as u32)
}
