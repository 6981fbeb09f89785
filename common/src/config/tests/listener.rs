//! Listeners: what they come to, and what is dubious about them.

use super::*;

fn listeners(http: &str) -> (Vec<HttpListener>, Vec<String>) {
    let text = format!(
        "clusters: [{{id: c, servers: [{{id: a, address: 127.0.0.1, http: [{http}]}}], \
         hosts: [{{id: '', web-apps: [{{id: '', root-directory: htdocs}}]}}]}}]"
    );
    let files = Files::new(&[("copal.yaml", &text)]);
    let loaded = files.load("copal.yaml", &options()).unwrap();
    let mut listeners = loaded.config.clusters[0].servers[0].http.clone();
    for path in listeners.iter_mut().filter_map(|it| it.tls.as_mut()).flat_map(|tls| {
        tls.certificates.iter_mut().flat_map(|it| [&mut it.cert, &mut it.key]).chain(tls.client_ca.as_mut())
    }) {
        path.path = path.path.strip_prefix(files.path("")).unwrap().to_owned();
    }
    (listeners, loaded.warnings.iter().map(|it| it.message().to_owned()).collect())
}

#[test]
fn a_listener_is_plain_unless_it_says_otherwise() {
    let (plain, warnings) = listeners("{port: 80}");
    assert_eq!((plain[0].address.as_str(), plain[0].port, warnings.len()), ("0.0.0.0", 80, 0));
    assert!(plain[0].tls.is_none() && !plain[0].proxy_protocol);
}

#[test]
fn metrics_are_for_this_machine_unless_an_address_is_said() {
    let metrics = |server: &str, port_offset| {
        let text = format!(
            "clusters: [{{id: c, servers: [{{id: a, address: 127.0.0.1, {server}}}], \
             hosts: [{{id: '', web-apps: [{{id: '', root-directory: htdocs}}]}}]}}]"
        );
        let files = Files::new(&[("copal.yaml", &text)]);
        let options = LoadOptions { port_offset, ..options() };
        files.load("copal.yaml", &options).map(|it| it.config.clusters[0].servers[0].metrics.clone())
    };
    let at = |address: &str, port| Some(MetricsListener { address: address.to_owned(), port });
    assert_eq!(metrics("http: []", 0).unwrap(), None);
    assert_eq!(metrics("metrics: {port: 9600}", 100).unwrap(), at("127.0.0.1", 9700));
    assert_eq!(metrics("metrics: {port: 9600, address: 10.0.0.1}", 0).unwrap(), at("10.0.0.1", 9600));
    for (wrong, words) in [
        ("metrics: {}", "give the port to listen on"),
        ("metrics: {port: 6800}", "6800"),
        ("metrics: {port: 9600, colour: red}", "unknown key `colour`"),
    ] {
        let errors = metrics(wrong, 0).unwrap_err();
        assert!(errors.contains(words), "{wrong}: {errors}");
    }
}

#[test]
fn tls_names_its_files_and_where_they_stand() {
    let (found, warnings) = listeners(
        "{port: 443, tls: {certs: [{cert: a.pem, key: a.key}, {cert: tls/b.pem, key: tls/b.key}]}}",
    );
    assert_eq!(warnings, [""; 0]);
    let tls = found[0].tls.as_ref().unwrap();
    assert_eq!((tls.client_auth, tls.min_version), (ClientAuth::None, TlsVersion::Tls12));
    let shown: Vec<_> =
        tls.certificates.iter().map(|it| (it.cert.path.clone(), it.key.path.clone())).collect();
    assert_eq!(shown, [("a.pem".into(), "a.key".into()), ("tls/b.pem".into(), "tls/b.key".into())]);
    let problem = tls.certificates[1].key.location.error("it is gone");
    assert_eq!((problem.line(), problem.is_error(), problem.message()), (1, true, "it is gone"));
    assert!(problem.to_string().contains("tls/b.key"), "{problem}");
}

#[test]
fn a_client_authority_means_required_unless_said_otherwise() {
    for (more, auth, told) in [
        ("client-ca: ca.pem", ClientAuth::Required, 0),
        ("client-ca: ca.pem, client-auth: optional", ClientAuth::Optional, 0),
        ("client-ca: ca.pem, client-auth: none", ClientAuth::None, 1),
        ("client-auth: none, min-version: '1.3'", ClientAuth::None, 0),
    ] {
        let (found, warnings) =
            listeners(&format!("{{port: 443, tls: {{certs: [{{cert: a, key: b}}], {more}}}}}"));
        let tls = found[0].tls.as_ref().unwrap();
        assert_eq!((tls.client_auth, warnings.len()), (auth, told), "{more}: {warnings:?}");
        assert_eq!(tls.min_version == TlsVersion::Tls13, more.contains("1.3"));
    }
}

#[test]
fn clients_are_told_of_http_3_at_the_port_of_the_listener_for_a_day() {
    for (more, port, hours) in
        [("", 443, 24), (", alt-svc-port: 8443", 8443, 24), (", alt-svc-age: 1h", 443, 1)]
    {
        let listener = format!("{{port: 443, http3: true, tls: {{certs: [{{cert: a, key: b}}]}}{more}}}");
        let (found, warnings) = listeners(&listener);
        let http3 = found[0].http3.as_ref().unwrap();
        let age = std::time::Duration::from_secs(hours * 3600);
        assert_eq!((http3.alt_svc_port, http3.alt_svc_age, warnings.len()), (port, age, 0), "{more}");
    }
    let (found, warnings) = listeners("{port: 80, http3: false, alt-svc-port: 443}");
    assert!(found[0].http3.is_none());
    assert_eq!(
        warnings,
        ["`alt-svc-port` does nothing: it tells clients of HTTP/3, and `http3` is not `true`"]
    );
}

#[test]
fn trusting_everyone_is_warned_of() {
    let text = "clusters: [{id: c, trusted-proxies: [10.0.0.0/8, 0.0.0.0/0], \
                servers: [{id: a, address: 127.0.0.1, http: [{port: 80, proxy-protocol: true}]}], \
                hosts: [{id: '', web-apps: [{id: '', root-directory: htdocs}]}]}]";
    let loaded = load_text(text).unwrap();
    let cluster = &loaded.config.clusters[0];
    assert_eq!(
        cluster.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/8", "0.0.0.0/0"]
    );
    assert!(cluster.servers[0].http[0].proxy_protocol);
    let told: Vec<_> = loaded.warnings.iter().map(Problem::message).collect();
    assert_eq!(told, ["`0.0.0.0/0` is everyone: any client can then claim any address in X-Forwarded-For"]);
}

#[test]
fn problems_found_later_are_parted_and_told_once() {
    let (found, _) = listeners("{port: 443, tls: {certs: [{cert: a, key: b}]}}");
    let place = &found[0].tls.as_ref().unwrap().certificates[0].cert.location;
    let warnings = ConfigErrors::part(vec![place.warning("soon"), place.warning("soon")]).unwrap();
    assert_eq!(warnings.len(), 1);
    let errors = ConfigErrors::part(vec![place.warning("soon"), place.error("gone"), place.error("gone")])
        .unwrap_err();
    assert_eq!(errors.problems().len(), 1);
    assert!(errors.to_string().ends_with("1 error"), "{errors}");
}

#[test]
fn acme_is_a_clusters_and_is_complete_with_two_keys() {
    let load = |acme: &str| {
        let text = format!(
            "clusters: [{{id: c, acme: {{{acme}}}, servers: [{{id: a, address: 127.0.0.1, http: [{{port: 80}}, {{port: 443, \
             tls: {{acme: true}}}}]}}], hosts: [{{id: '', web-apps: [{{id: '', root-directory: htdocs}}]}}]}}]"
        );
        let loaded = Files::new(&[("copal.yaml", &text)]).load("copal.yaml", &options()).unwrap();
        assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
        let tls = loaded.config.clusters[0].servers[0].http[1].tls.clone().unwrap();
        assert!(tls.acme && tls.certificates.is_empty());
        (loaded.config.clusters[0].acme.clone().unwrap(), loaded.config.effective)
    };
    let (acme, _) = load("directory: staging, domains: [Example.com, [example.org, www.example.org]]");
    assert_eq!(acme.directory, "https://acme-staging-v02.api.letsencrypt.org/directory");
    assert_eq!((acme.challenge, acme.key_type), (AcmeChallenge::Http01, AcmeKeyType::Ec256));
    assert_eq!(acme.domains, [vec!["example.com"], vec!["example.org", "www.example.org"]]);
    assert!(acme.contact.is_empty() && acme.ca.is_none() && acme.external_account.is_none());
    let (acme, effective) = load(
        "directory: 'https://ca.internal/acme/directory', domains: [example.com], contact: [ops@example.com], ca: ca.pem, \
         key-type: rsa2048, challenge: tls-alpn-01, external-account: {key-id: kid, hmac-key: AAECAwQFBgcICQoLDA0ODw}",
    );
    assert_eq!(acme.directory, "https://ca.internal/acme/directory");
    assert_eq!((acme.challenge, acme.key_type.name()), (AcmeChallenge::TlsAlpn01, "rsa2048"));
    assert_eq!(acme.contact, ["mailto:ops@example.com"]);
    let account = acme.external_account.unwrap();
    assert_eq!((account.key_id.as_str(), account.hmac_key.bytes().len()), ("kid", 16));
    assert!(effective.contains("key-id: kid") && !effective.contains("AAECAwQ"), "{effective}");
}
