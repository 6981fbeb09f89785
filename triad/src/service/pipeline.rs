//! What `pipeline.proto`'s parts of writes may hold.

use super::{
    input,
    queue::{BODY_MAX, TIME_MAX_MS, TYPE_MAX, at_most, few, message_of_any, queue_name},
};
use crate::state::queue::step_of;
use proto::hub::v1::{Advance, BeginRun, advance::To};
use tonic::Status;

/// Parts that a step may make of a run.
const PARTS_MAX: usize = 1000;

/// A run begins at a step of its pipeline.
pub(super) fn begin(field: &str, begin: &BeginRun) -> Result<(), Status> {
    let of = |name: &str| format!("{field}.{name}");
    input::service_name(&of("pipeline"), &begin.pipeline)?;
    at_most(&of("result_ms"), begin.result_ms, TIME_MAX_MS)?;
    let Some(message) = &begin.message else {
        return Err(Status::invalid_argument(format!("{} is missing", of("message"))));
    };
    queue_name(&of("message.queue"), &message.queue)?;
    if step_of(&message.queue).is_none_or(|it| it.0 != begin.pipeline) {
        let (found, pipeline) = (&message.queue, &begin.pipeline);
        let text = format!("{} is {found:?}: expected a step of {pipeline}", of("message.queue"));
        return Err(Status::invalid_argument(text));
    }
    if message.ttl_ms > 0 || !message.group.is_empty() || !message.unique.is_empty() {
        let text = format!("{}: a run has no ttl, group or unique key", of("message"));
        return Err(Status::invalid_argument(text));
    }
    message_of_any(&of("message"), message)
}

/// A run goes on at a step of a pipeline.
pub(super) fn advance(field: &str, advance: &Advance) -> Result<(), Status> {
    let of = |name: &str| format!("{field}.{name}");
    match &advance.to {
        Some(To::Queue(queue) | To::Join(queue)) => {
            queue_name(&of("to"), queue)?;
            if step_of(queue).is_none() {
                let text = format!("{} is {queue:?}: expected the queue of a step", of("to"));
                return Err(Status::invalid_argument(text));
            }
        }
        Some(To::Halt(_)) | None => {}
    }
    if !advance.parts.is_empty() && !matches!(advance.to, Some(To::Queue(_))) {
        let text = format!("{}: there is no queue that they go to", of("parts"));
        return Err(Status::invalid_argument(text));
    }
    few(&of("parts"), advance.parts.len(), PARTS_MAX)?;
    for it in &advance.parts {
        at_most(&of("parts.body's length"), it.body.len() as u64, BODY_MAX as u64)?;
        input::text(&of("parts.content_type"), &it.content_type, TYPE_MAX)?;
    }
    Ok(())
}
