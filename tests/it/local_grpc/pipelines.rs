//! `copal.app.v1.Pipelines`.

use super::{App, refused, start};
use hyper::Method;
use proto::app::v1::{
    Fence, Message, PipelineBeginRequest, PipelineGetRequest, PipelineResult, PipelineRun, pipeline_run::End,
};
use serde_json::{Value, json};
use tonic::Code;

fn begin(step: &str, body: &Value, wait_ms: u64) -> PipelineBeginRequest {
    let message = Message {
        body: body.to_string().into(),
        content_type: "application/json".into(),
        ..Message::default()
    };
    let (pipeline, step, message) = ("calc".to_owned(), step.to_owned(), Some(message));
    PipelineBeginRequest { pipeline, step, message, wait_ms, fence: None }
}

async fn run(app: &App, request: PipelineBeginRequest) -> PipelineRun {
    app.pipelines().begin(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_the_same_over_grpc_and_http() {
    let Some((_cluster, mut app, other)) = start().await else { return };
    let square = json!({"do": "square", "n": 3});
    let ended = run(&app, begin("one", &square, 20_000)).await;
    let nine = End::Done(PipelineResult { body: "9".into(), content_type: "text/plain".into() });
    assert_eq!((ended.end, ended.repeated), (Some(nine.clone()), false));
    // What was begun over HTTP is told here, and the other way.
    let get = |id| PipelineGetRequest { pipeline: "calc".to_owned(), id };
    assert_eq!(other.pipelines().get(get(ended.id)).await.unwrap().into_inner().end, Some(nine));
    let path = format!("/v1/pipelines/calc/runs/{}", ended.id);
    assert_eq!(app.http(Method::GET, &path, "").await, (200, json!(9)));
    let (_, begun) = app.http(Method::POST, "/v1/pipelines/calc?step=one", &square.to_string()).await;
    let id = begun["id"].as_str().unwrap().parse().unwrap();
    while app.pipelines().get(get(id)).await.unwrap().into_inner().end.is_none() {}
    let halt = json!({"do": "outcome", "outcome": {"halt": true, "body": 1}});
    let halted = run(&app, begin("", &halt, 20_000)).await.end;
    assert!(matches!(halted, Some(End::Halted(it)) if it.body == "1"));
    let dead = run(&app, begin("", &json!({"do": "dead"}), 20_000)).await.end;
    assert!(matches!(dead, Some(End::Failed(why)) if why.contains("nonsense")));
    // Whoever does not wait, or not long enough, asks again.
    assert_eq!(run(&app, begin("", &halt, 0)).await.end, None);
    assert_eq!(run(&app, begin("one", &json!({"sleep": 1}), 1)).await.end, None);
    let mut keyed = begin("one", &square, 0);
    keyed.message.as_mut().unwrap().idempotency_key = "k".into();
    let (first, again) = (run(&app, keyed.clone()).await, run(&app, keyed).await);
    assert_eq!((again.id, first.repeated, again.repeated), (first.id, false, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused() {
    let Some((_cluster, app, _)) = start().await else { return };
    let ok = begin("", &json!({}), 0);
    let grouped = Message { group: "g".into(), ..Message::default() };
    for request in [
        PipelineBeginRequest { pipeline: "A".into(), ..ok.clone() },
        PipelineBeginRequest { step: "none".into(), ..ok.clone() },
        PipelineBeginRequest { wait_ms: 60_001, ..ok.clone() },
        PipelineBeginRequest { message: Some(grouped), ..ok.clone() },
    ] {
        let bad = (Code::InvalidArgument, "bad-request".to_owned());
        assert_eq!(refused(app.pipelines().begin(request).await), bad);
    }
    let stale = Some(Fence { name: "nobodys".into(), token: 1 });
    let stale = app.pipelines().begin(PipelineBeginRequest { fence: stale, ..ok }).await;
    assert_eq!(refused(stale), (Code::FailedPrecondition, "stale-fence".to_owned()));
    let unknown = PipelineGetRequest { pipeline: "calc".into(), id: 7 };
    let none = (Code::NotFound, "not-found".to_owned());
    assert_eq!(refused(app.pipelines().get(unknown).await), none);
}
