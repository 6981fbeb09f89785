//! The manifests for Kubernetes: they load, name each other rightly, and the file in them is valid.

use super::{all, check, packaging, said, text};
use serde_json::Value;
use std::{collections::BTreeMap, fs};

const FILES: [&str; 5] = ["namespace", "secret", "configuration", "app-tier", "web-tier"];

/// All objects, by kind and name.
fn objects() -> BTreeMap<(String, String), Value> {
    let mut objects = BTreeMap::new();
    for file in FILES {
        for document in serde_yaml::Deserializer::from_str(&text(&format!("kubernetes/{file}.yaml"))) {
            let object: Value = serde::Deserialize::deserialize(document).unwrap();
            assert!(object["apiVersion"].is_string(), "{file}: {object}");
            let word = |it: &Value| it.as_str().unwrap_or_else(|| panic!("{file}: {object}")).to_owned();
            let key = (word(&object["kind"]), word(&object["metadata"]["name"]));
            assert!(objects.insert(key.clone(), object).is_none(), "{key:?} twice");
        }
    }
    objects
}

fn get<'a>(objects: &'a BTreeMap<(String, String), Value>, kind: &str, name: &str) -> &'a Value {
    objects.get(&(kind.to_owned(), name.to_owned())).unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn list<'a>(value: &'a Value, what: &str) -> &'a [Value] {
    value[what].as_array().map_or(&[], Vec::as_slice)
}

fn names(value: &Value, what: &str) -> Vec<String> {
    list(value, what).iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_kustomization_names_every_file_and_kubectl_builds_it() {
    let text = text("kubernetes/kustomization.yaml");
    let kustomization: Value = serde_yaml::from_str(&text).unwrap();
    let resources: Vec<_> =
        list(&kustomization, "resources").iter().map(|it| it.as_str().unwrap().to_owned()).collect();
    assert_eq!(resources, FILES.map(|it| format!("{it}.yaml")));
    let folder = packaging("kubernetes");
    let Some(built) = said("kubectl", &["kustomize", &folder.to_string_lossy()]) else { return };
    assert!(built.status.success(), "{}", all(&built));
    let kinds = String::from_utf8_lossy(&built.stdout).lines().filter(|it| it.starts_with("kind: ")).count();
    assert_eq!(kinds, objects().len());
}

/// The pods of a tier are what selects them, mounts what there is, and probes what the server answers.
fn tier(objects: &BTreeMap<(String, String), Value>, name: &str) {
    let set = &get(objects, "StatefulSet", name)["spec"];
    let pod = &set["template"];
    let labels = &pod["metadata"]["labels"];
    assert_eq!((set["serviceName"].as_str(), &set["selector"]["matchLabels"]), (Some(name), labels));
    let service = &get(objects, "Service", name)["spec"];
    assert_eq!((service["clusterIP"].as_str(), &service["selector"]), (Some("None"), labels));
    assert_eq!(service["publishNotReadyAddresses"].as_bool(), Some(true));
    let budget = &get(objects, "PodDisruptionBudget", name)["spec"];
    assert_eq!((&budget["selector"]["matchLabels"], budget["maxUnavailable"].as_u64()), (labels, Some(1)));

    let container = &pod["spec"]["containers"][0];
    let mut volumes = names(&pod["spec"], "volumes");
    volumes.extend(
        list(set, "volumeClaimTemplates")
            .iter()
            .map(|it| it["metadata"]["name"].as_str().unwrap().to_owned()),
    );
    let mut mounts = names(container, "volumeMounts");
    volumes.sort();
    mounts.sort();
    assert_eq!(volumes, mounts, "{name}");
    let ports = names(container, "ports");
    for (probe, path) in
        [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
    {
        let get = &container[probe]["httpGet"];
        assert_eq!((get["path"].as_str(), get["port"].as_str()), (Some(path), Some("metrics")), "{name}");
    }
    assert!(ports.contains(&"metrics".to_owned()) && ports.contains(&"cluster".to_owned()));
    for variable in list(container, "env") {
        if let Some(key) = variable["valueFrom"]["secretKeyRef"]["key"].as_str() {
            assert!(get(objects, "Secret", "copal")["stringData"][key].is_string(), "{key}");
        }
    }
    assert_eq!(pod["spec"]["volumes"][0]["configMap"]["name"], "copal");
    let arguments: Vec<_> = list(container, "args").iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(arguments, ["start", "--conf", "/etc/copal/copal.yaml", "--server", "$(POD_NAME)"]);
}

#[test]
fn the_manifests_agree_with_each_other_and_the_file_in_them_is_valid() {
    let objects = objects();
    let file = get(&objects, "ConfigMap", "copal")["data"]["copal.yaml"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copal.yaml");
    fs::write(&path, file).unwrap();
    check(&path);
    let config: Value = serde_yaml::from_str(file).unwrap();
    let seconds = |text: &str| text.strip_suffix('s').unwrap().parse::<u64>().unwrap();
    let wait = seconds(config["server-default"]["shutdown-wait-max"].as_str().unwrap());
    let metrics = &config["server-default"]["metrics"]["port"];
    for (cluster, name) in list(&config, "clusters").iter().zip(["app", "web"]) {
        tier(&objects, name);
        let set = &get(&objects, "StatefulSet", name)["spec"];
        let pod = &set["template"]["spec"];
        // The hub waits 10 s longer for others, and the last saves have 5 s.
        assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > 2 * wait + 15);
        let port_of = |name: &str| {
            let ports = list(&pod["containers"][0], "ports");
            ports.iter().find(|it| it["name"] == name).map(|it| it["containerPort"].clone()).unwrap()
        };
        assert_eq!(port_of("metrics"), *metrics);
        let default = &cluster["server-default"];
        assert_eq!(port_of("cluster"), default["port"]);
        if let Some(http) = list(default, "http").first() {
            assert_eq!(port_of("http"), http["port"]);
        }
        let namespace = get(&objects, "Namespace", "copal")["metadata"]["name"].as_str().unwrap();
        let replicas = set["replicas"].as_u64().unwrap();
        let pods = (0..replicas).map(|number| {
            let id = format!("{name}-{number}");
            let address = format!("{id}.{name}.{namespace}.svc.cluster.local");
            (id, address)
        });
        let word = |it: &Value| it.as_str().unwrap().to_owned();
        let servers = list(cluster, "servers").iter().map(|it| (word(&it["id"]), word(&it["address"])));
        assert!(pods.eq(servers), "{name}: pods and servers are the same");
    }
    let public = &get(&objects, "Service", "copal")["spec"];
    let web = &get(&objects, "StatefulSet", "web")["spec"]["template"]["metadata"]["labels"];
    assert_eq!((&public["selector"], public["ports"][0]["targetPort"].as_str()), (web, Some("http")));
}
