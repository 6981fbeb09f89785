//! OCSP responses: asked of a responder on a real socket, and seen by clients.

use super::{credulous::Credulous, staples::keep, *};
use rcgen::{CustomExtension, SigningKey};
use tokio::{net::TcpListener, time::timeout};

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82, length[0], length[1]], &content[..]].concat()
}

/// An answer for the certificate of a request, of yesterday and for two days.
fn response(request: &[u8], status: u8, authority: &Authority) -> Vec<u8> {
    let time = |days: i64| {
        let day = x509::date(listener::unix_now() + days * 86_400).replace('-', "");
        element(0x18, &[format!("{day}000000Z").as_bytes()])
    };
    // Four short headers, one in the other.
    let id = &request[8..];
    let single = element(0x30, &[id, &[status, 0], &time(-1), &element(0xa0, &[&time(2)])]);
    let who = element(0xa2, &[&element(4, &[&[7; 20]])]);
    let data = element(0x30, &[&who, &time(-1), &element(0x30, &[&single])]);
    let algorithm = [0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let signature = authority.issuer.key().sign(&data).unwrap();
    let basic = element(0x30, &[&data, &algorithm, &element(3, &[&[0], &signature])]);
    let kind = [6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
    let bytes = element(0x30, &[&kind, &element(4, &[&basic])]);
    element(0x30, &[&[0x0a, 1, 0], &element(0xa0, &[&bytes])])
}

/// Answers one question with this status, signed by `authority`.
async fn respond(responder: &TcpListener, authority: &Authority, status: u8) {
    let (mut stream, _) = responder.accept().await.unwrap();
    let mut request = Vec::new();
    let body = loop {
        assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some(head) = text.find("\r\n\r\n") else { continue };
        let length = text.lines().find_map(|it| it.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
        if request.len() >= head + 4 + length.unwrap() {
            assert!(text.starts_with("POST /ocsp HTTP/1.0\r\n"), "{text}");
            break request.split_off(head + 4);
        }
    };
    stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/ocsp-response\r\n\r\n").await.unwrap();
    stream.write_all(&response(&body, status, authority)).await.unwrap();
}

async fn setup() -> (Authority, Folder, TcpListener) {
    let responder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/ocsp", responder.local_addr().unwrap());
    let place = element(0x86, &[url.as_bytes()]);
    let access = element(0x30, &[&[6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1], &place]);
    let access = element(0x30, &[&access]);
    let (authority, folder) = (Authority::new(), Folder::new());
    let mut issued = authority.issue_with(&["a.test"], &KeyPair::generate().unwrap(), |params| {
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access)];
    });
    issued.pem.push_str(&authority.pem);
    folder.put("site", &issued);
    (authority, folder, responder)
}

/// What a new client is shown.
async fn shown(listener: &TlsListener, authority: &Authority) -> Vec<u8> {
    let sees = Credulous::of_all();
    let client = authority.client(|config| config.dangerous().set_certificate_verifier(sees.clone()));
    connect(listener, &client, "a.test").await;
    sees.staple.lock().unwrap().clone()
}

#[tokio::test]
async fn a_good_answer_is_stapled_and_no_handshake_waits_for_it() {
    let (authority, folder, responder) = setup().await;
    let listener = folder.listener(&["site"], "");
    let listeners = [listener.clone()];
    let keeping = keep(&listeners);
    tokio::pin!(keeping);
    let checked = async {
        // Nobody answers yet.
        assert_eq!(shown(&listener, &authority).await, b"");
        respond(&responder, &authority, 0x80).await;
        while shown(&listener, &authority).await.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(listener.reload().unwrap(), Changed::Nothing);
    };
    tokio::select! {
        () = &mut keeping => {}
        checked = timeout(LIMIT, checked) => checked.unwrap(),
    }
    let off = folder.listener(&["site"], "ocsp-stapling: false");
    assert!(off.asked().is_empty());
}

#[tokio::test]
async fn a_word_that_is_not_good_is_not_stapled() {
    let (authority, folder, responder) = setup().await;
    let stranger = Authority::new();
    for (signer, status) in [(&authority, 0xa1), (&authority, 0x82), (&stranger, 0x80)] {
        let listener = folder.listener(&["site"], "");
        let listeners = [listener.clone()];
        let keeping = keep(&listeners);
        tokio::pin!(keeping);
        let checked = async {
            respond(&responder, signer, status).await;
            while listener.staples().failures() == 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(shown(&listener, &authority).await, b"", "{status}");
        };
        tokio::select! {
            () = &mut keeping => {}
            checked = timeout(LIMIT, checked) => checked.unwrap(),
        }
    }
}
