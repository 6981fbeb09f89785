//! Forms with a file, whole and hostile, in pieces of any size.

use super::*;
use futures_util::StreamExt;
use http_body_util::StreamBody;
use proptest::prelude::*;

const TYPE: &str = "multipart/form-data; boundary=XyZ";

fn headers(content_type: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().unwrap())])
}

/// The body in pieces; `cut`: it breaks off.
fn body(text: &[u8], piece: usize, cut: bool) -> RequestBody {
    let mut frames: Vec<Result<Frame<Bytes>, Box<dyn std::error::Error + Send + Sync>>> =
        text.chunks(piece.max(1)).map(|it| Ok(Frame::data(Bytes::copy_from_slice(it)))).collect();
    if cut {
        frames.push(Err("cut".into()));
    }
    StreamBody::new(futures_util::stream::iter(frames).boxed()).boxed_unsync()
}

/// The fields and the file.
async fn read(text: &[u8], piece: usize) -> Result<(Fields, Result<Vec<u8>, String>), String> {
    let form = Multipart::new(&headers(TYPE), body(text, piece, false));
    let mut form = form.map_err(|(refusal, _)| refusal.to_string())?;
    let fields = form.fields("archive").await.map_err(|it| it.to_string())?;
    let file = form.file().collect().await;
    Ok((fields, file.map(|it| it.to_bytes().to_vec()).map_err(|it| it.to_string())))
}

fn form(file: &[u8]) -> Vec<u8> {
    let head = "preamble\r\n--XyZ\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nt-1\r\n\
                --XyZ  \r\ncontent-disposition: form-data; name=name\r\nX-Else: 1\r\n\r\nsh\u{f6}p\r\n\
                --XyZ\r\nContent-Disposition: form-data; name=\"archive\"; filename=\"a.tar\"\r\n\
                Content-Type: application/x-tar\r\n\r\n";
    let end = "\r\n--XyZ\r\nContent-Disposition: form-data; name=\"late\"\r\n\r\nx\r\n--XyZ--\r\n";
    [head.as_bytes(), file, end.as_bytes()].concat()
}

#[tokio::test]
async fn fields_come_first_and_the_file_as_it_is() {
    for piece in [1, 7, 100_000] {
        let (fields, file) = read(&form(b"\r\n--Xy not yet \r\n--"), piece).await.unwrap();
        assert_eq!(
            (fields.field("token"), fields.field("name"), fields.field("late")),
            ("t-1", "sh\u{f6}p", "")
        );
        assert_eq!(file.unwrap(), b"\r\n--Xy not yet \r\n--");
    }
    assert_eq!(read(&form(b""), 3).await.unwrap().1.unwrap(), b"");
}

#[tokio::test]
async fn what_is_no_such_form_is_refused_and_a_file_that_is_cut_is_none() {
    let part = |head: &str, rest: &str| format!("--XyZ\r\nContent-Disposition: {head}\r\n\r\n{rest}");
    for (text, words) in [
        (String::new(), "the form ends in the middle"),
        ("--Other\r\n\r\n".to_owned(), "the form ends in the middle"),
        ("--XyZ--".to_owned(), "the form has no file"),
        ("--XyZ\r\n\r\n".to_owned(), "a part of the form has no name"),
        (
            "--XyZzy\r\nContent-Disposition: form-data; name=a\r\n\r\n".to_owned(),
            "the form's boundary is not",
        ),
        (part("attachment; name=a", ""), "a part of the form is no form-data"),
        (part("form-data", ""), "a part of the form has no name"),
        (part("form-data; name=archive; filename=\"\"", "\r\n--XyZ--"), "no file was chosen"),
        (part("form-data; name=else; filename=a.tar", ""), "the form has another file"),
        (part("form-data; name=a", &"x".repeat(100_000)), "a field of the form is too large"),
        ("x".repeat(100_000), "a field of the form is too large, or its boundary"),
        (format!("--XyZ\r\nX: {}", "x".repeat(100_000)), "the head of a part of the form is too large"),
        (part("form-data; name=a", "1\r\n").repeat(20), "the form has too many fields before the file"),
    ] {
        let told = read(text.as_bytes(), 1000).await.unwrap_err();
        assert!(told.starts_with(words), "{words}: {told}");
    }
    let whole = form(b"0123456789");
    let cut = &whole[..whole.len() - 80];
    assert!(cut.ends_with(b"01234") || cut.len() < whole.len());
    let until_file = whole.iter().rposition(|it| *it == b'7').unwrap();
    let (_, file) = read(&whole[..until_file], 9).await.unwrap();
    assert_eq!(file.unwrap_err(), "the file ends without the form's boundary");
    let mut broken =
        Multipart::new(&headers(TYPE), body(&whole[..until_file], 9, true)).map_err(|it| it.0).unwrap();
    broken.fields("archive").await.unwrap();
    assert_eq!(broken.file().collect().await.unwrap_err().to_string(), "cut");
}

#[test]
fn boundaries_are_read_as_they_are_written_or_not_at_all() {
    let of = |text: &str| boundary(&headers(text));
    assert_eq!(of("multipart/form-data; boundary=----WebKitForm1"), Some("----WebKitForm1".to_owned()));
    assert_eq!(of("Multipart/Form-Data; charset=utf-8; BOUNDARY=\"a b\""), Some("a b".to_owned()));
    for wrong in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=x",
        "application/x-www-form-urlencoded; boundary=x",
        "multipart/form-data; boundary=\"x \"",
        "multipart/form-data; boundary=a\"b",
    ] {
        assert_eq!(of(wrong), None, "{wrong}");
    }
    assert_eq!(of(&format!("multipart/form-data; boundary={}", "x".repeat(71))), None);
}

/// With the runtime that time-outs need.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn any_file_comes_out_whole_in_pieces_of_any_size(
        file in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'X'), any::<u8>()], 0..300),
        piece in 1_usize..50,
    ) {
        prop_assume!(find(&file, b"\r\n--XyZ").is_none());
        let read = wait(read(&form(&file), piece)).unwrap();
        prop_assert_eq!(read.1.unwrap(), file);
    }

    #[test]
    fn whatever_comes_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..400), piece in 1_usize..50) {
        let _ = wait(read(&[b"--XyZ\r\n", &text[..]].concat(), piece));
    }
}
