//! Tests of what all services have in common.

use super::{super::Activity, *};
use futures_util::FutureExt;

fn read(text: &str) -> Option<Duration> {
    let headers: HeaderMap = [(TIMEOUT.parse().unwrap(), text.parse().unwrap())].into_iter().collect();
    time(&headers).ok().flatten()
}

#[test]
fn a_callers_time_is_read() {
    assert_eq!(time(&HeaderMap::new()).unwrap(), None);
    for (text, expected) in [
        ("1H", Duration::from_secs(3600)),
        ("2M", Duration::from_secs(120)),
        ("10S", Duration::from_secs(10)),
        ("250m", Duration::from_millis(250)),
        ("7u", Duration::from_micros(7)),
        ("0n", Duration::ZERO),
        ("99999999H", Duration::from_secs(99_999_999 * 3600)),
    ] {
        assert_eq!(read(text), Some(expected), "{text}");
    }
    for text in ["", "S", "10", "1s", "-1S", "+1S", "123456789S", "1 S", "1.5S", "ä"] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn what_was_not_read_is_told_as_all_else() {
    let of = |status: Status| told(status.into_http()).map_err(Status::from);
    let code = |status: Status| of(status).unwrap_err().code();
    assert_eq!(code(Status::out_of_range("too long")), Code::ResourceExhausted);
    assert_eq!(code(Status::internal("no message")), Code::InvalidArgument);
    assert!(of(Status::not_found("nothing")).is_ok());
    assert!(is_counted("/copal.app.v1.Queues/Publish") && !is_counted("/copal.app.v1.Sessions/Update"));
}

fn in_flight(time: Option<Duration>, stop: &CancellationToken) -> InFlight {
    let active = Arc::new(Activity::new()).begin();
    let call = Call::begin(&Arc::default(), "a", Some(0), active).unwrap();
    InFlight::new(Arc::new(call), time, [stop, &CancellationToken::new()])
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_time_its_server_or_its_first_problem() {
    let stop = CancellationToken::new();
    let endless = || stream::repeat_with(|| Ok(1)).take(1).chain(stream::pending::<Result<i32, Problem>>());
    let mut late = answers(in_flight(Some(Duration::from_secs(5)), &stop), endless()).into_inner();
    let mut stopped = answers(in_flight(None, &stop), endless()).into_inner();
    let failing = stream::iter([Ok(1), Err(Problem::not_found("gone")), Ok(2)]);
    let mut failed = answers(in_flight(None, &stop), failing).into_inner();
    for stream in [&mut late, &mut stopped, &mut failed] {
        assert_eq!(stream.next().await.unwrap().unwrap(), 1);
    }
    assert_eq!(late.next().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(failed.next().await.unwrap().unwrap_err().code(), Code::NotFound);
    assert!(stopped.next().now_or_never().is_none());
    stop.cancel();
    let status = stopped.next().await.unwrap().unwrap_err();
    assert_eq!(
        (status.code(), status.metadata().get("copal-code").unwrap().to_str().unwrap()),
        (Code::Unavailable, "stopping")
    );
    for stream in [&mut late, &mut stopped, &mut failed] {
        assert!(stream.next().await.is_none());
    }
}
