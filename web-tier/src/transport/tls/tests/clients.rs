//! Client certificates.

use super::*;

/// The fields of a connection's client certificate.
fn fields(connected: &Connected) -> Vec<(&'static str, String)> {
    connected.connection.client_fields().map(|(name, value)| (name, value.to_owned())).collect()
}

struct Setup {
    authority: Authority,
    folder: Folder,
    machine: Issued,
    stranger: Issued,
}

fn setup() -> Setup {
    let (authority, machines, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let folder = Folder::new();
    folder.put("site", &authority.issue(&["a.test"]));
    folder.write("ca.pem", &machines.pem);
    let named = |params: &mut CertificateParams| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(DnType::CommonName, "machine 7");
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x0a, 0xbc]));
        params.not_after = rcgen::date_time_ymd(2040, 6, 30);
    };
    let machine = machines.issue_with(&["machine-7"], &KeyPair::generate().unwrap(), named);
    let stranger = strangers.issue(&["machine-7"]);
    Setup { authority, folder, machine, stranger }
}

#[tokio::test]
async fn required_means_that_nobody_comes_without_one() {
    let Setup { authority, folder, machine, stranger } = setup();
    let listener = folder.listener(&["site"], "client-ca: ca.pem");
    let connected = connect(&listener, &authority.client_with(&machine), "a.test").await;
    let fields = fields(&connected);
    let fingerprint = &fields[5].1;
    assert_eq!(fingerprint.len(), 64);
    assert_eq!(
        fields,
        [
            ("X-SSL-Client-Verify", "SUCCESS"),
            ("X-SSL-Client-S-DN", "CN=machine 7,O=Example\\, Inc."),
            ("X-SSL-Client-I-DN", "CN=An authority"),
            ("X-SSL-Client-Serial", "0abc"),
            ("X-SSL-Client-Not-After", "2040-06-30"),
            ("X-SSL-Client-Fingerprint", fingerprint.as_str()),
        ]
        .map(|(name, value)| (name, value.to_owned()))
    );
    assert!(fields.iter().all(|(name, _)| is_client_certificate_field(name.as_bytes())));
    for client in [authority.client(|_| {}), authority.client12(), authority.client_with(&stranger)] {
        let (client, server) = try_connect(&listener, &client, "a.test").await.unwrap_err();
        assert!(client.is_some());
        assert_eq!(server.unwrap().failure(), Failure::ClientCertificate);
    }
}

#[tokio::test]
async fn optional_means_none_or_a_good_one() {
    let Setup { authority, folder, machine, stranger } = setup();
    let listener = folder.listener(&["site"], "client-ca: ca.pem, client-auth: optional");
    let without = connect(&listener, &authority.client(|_| {}), "a.test").await;
    assert_eq!(fields(&without), [("X-SSL-Client-Verify", "NONE".to_owned())]);
    let with = connect(&listener, &authority.client_with(&machine), "a.test").await;
    assert_eq!(fields(&with)[0], ("X-SSL-Client-Verify", "SUCCESS".to_owned()));
    let (_, server) = try_connect(&listener, &authority.client_with(&stranger), "a.test").await.unwrap_err();
    assert_eq!(server.unwrap().failure(), Failure::ClientCertificate);
}

#[tokio::test]
async fn nobody_is_asked_unless_there_is_an_authority() {
    let Setup { authority, folder, machine, .. } = setup();
    let listener = folder.listener(&["site"], "");
    let connected = connect(&listener, &authority.client_with(&machine), "a.test").await;
    assert!(connected.connection.client.is_none());
    assert_eq!(fields(&connected), []);
}

#[tokio::test]
async fn a_resumed_connection_has_the_certificate_of_the_first() {
    let Setup { authority, folder, machine, .. } = setup();
    let listener = folder.listener(&["site"], "client-ca: ca.pem");
    let client = authority.client_with(&machine);
    let first = connect(&listener, &client, "a.test").await;
    let second = connect(&listener, &client, "a.test").await;
    assert!(!first.resumed() && second.resumed());
    assert_eq!(fields(&first), fields(&second));
}

/// A ticket of a listener that asks nobody must not open one that does.
#[tokio::test]
async fn a_ticket_is_no_way_around_a_certificate() {
    let Setup { authority, folder, machine, .. } = setup();
    let open = folder.listener(&["site"], "");
    let closed = folder.listener(&["site"], "client-ca: ca.pem");
    let optional = folder.listener(&["site"], "client-ca: ca.pem, client-auth: optional");
    let client = authority.client(|_| {});
    connect(&open, &client, "a.test").await;
    assert!(connect(&open, &client, "a.test").await.resumed(), "its tickets are good where they come from");
    let (_, server) = try_connect(&closed, &client, "a.test").await.unwrap_err();
    assert_eq!(server.unwrap().failure(), Failure::ClientCertificate);
    let client = authority.client(|_| {});
    connect(&optional, &client, "a.test").await;
    assert!(try_connect(&closed, &client, "a.test").await.is_err());
    // Nor of one that trusts another authority.
    let client = authority.client_with(&machine);
    connect(&closed, &client, "a.test").await;
    folder.write("other-ca.pem", &Authority::new().pem);
    let other = folder.listener(&["site"], "client-ca: other-ca.pem");
    let (_, server) = try_connect(&other, &client, "a.test").await.unwrap_err();
    assert_eq!(server.unwrap().failure(), Failure::ClientCertificate);
}
