//! The service `Pipelines`.

use super::{Services, caller};
use crate::{
    local_api::{
        LocalApi,
        answer::Problem,
        input::{self, millis},
        pipelines::{self, Begin},
        queues::{MESSAGE_MAX, WAIT},
    },
    queue::of_grpc,
    registry::Running,
};
use proto::{
    app::v1::{
        PipelineBeginRequest, PipelineGetRequest, PipelineResult, PipelineRun, pipeline_run,
        pipelines_server::Pipelines,
    },
    hub::v1::{RunPart, run_end},
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Pipelines for Services {
    async fn begin(&self, request: Request<PipelineBeginRequest>) -> Result<Response<PipelineRun>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(begin(&self.0, &caller, request.into_inner()).await?))
    }

    async fn get(&self, request: Request<PipelineGetRequest>) -> Result<Response<PipelineRun>, Status> {
        let PipelineGetRequest { pipeline, id } = request.into_inner();
        let name = input::name("pipeline", &pipeline)?;
        let end = pipelines::found(&self.0, &name, id).await?;
        Ok(Response::new(PipelineRun { id, repeated: false, end: end.map(told) }))
    }
}

async fn begin(
    api: &LocalApi,
    caller: &Running,
    request: PipelineBeginRequest,
) -> Result<PipelineRun, Problem> {
    let PipelineBeginRequest { pipeline, step, message, wait_ms, fence } = request;
    let (name, fence) = (input::name("pipeline", &pipeline)?, input::told_fence(fence)?);
    let wait = millis("wait_ms", wait_ms, &WAIT)?;
    let message = of_grpc("message", message.unwrap_or_default(), MESSAGE_MAX)?;
    let step = (!step.is_empty()).then_some(step);
    let begin = Begin { step: step.as_deref(), message, wait, fence };
    let begun = pipelines::begun(api, caller, &name, begin).await?;
    Ok(PipelineRun { id: begun.run, repeated: !begun.is_new, end: begun.end.map(told) })
}

fn told(end: run_end::End) -> pipeline_run::End {
    let result = |RunPart { body, content_type }| PipelineResult { body, content_type };
    match end {
        run_end::End::Done(it) => pipeline_run::End::Done(result(it)),
        run_end::End::Halted(it) => pipeline_run::End::Halted(result(it)),
        run_end::End::Failed(why) => pipeline_run::End::Failed(why),
    }
}
