//! oauth2-proxy as a container of a workload of Kubernetes, with the `ConfigMap`s beside it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVar, PodSpec, PodTemplateSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;
use serde_json::Value;

use super::read::{self, Input, Unreadable};
use super::settings::{Given, Rank};

/// The workload in which oauth2-proxy runs.
pub(super) struct Workload {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    /// The labels by which it knows its pods.
    pub(super) labels: BTreeMap<String, String>,
    /// The other containers' ports, some of which have names.
    pub(super) ports: Vec<(i32, Option<String>)>,
    container: Container,
    volumes: Vec<Volume>,
}

/// A key of an object that is mounted as a file.
pub(super) enum Mounted {
    ConfigMap { name: String, key: String },
    Secret { name: String, key: String },
}

#[derive(Deserialize)]
struct Object {
    metadata: ObjectMeta,
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    selector: Option<LabelSelector>,
    template: PodTemplateSpec,
}

#[derive(Deserialize)]
struct Pod {
    metadata: ObjectMeta,
    spec: PodSpec,
}

/// Reads the documents of `text`.
pub(super) fn read(text: &str, input: &mut Input) -> Result<(), Unreadable> {
    let objects = objects(text)?;
    let of_kind = |kind: &str| {
        let objects = objects.iter();
        let kind = kind.to_owned();
        objects.filter(move |object| object.get("kind").and_then(Value::as_str) == Some(&kind))
    };
    let maps: Vec<ConfigMap> = of_kind("ConfigMap")
        .filter_map(|map| ConfigMap::deserialize(map).ok())
        .collect();
    let mut workloads: Vec<Workload> = objects.iter().flat_map(workloads).collect();
    let workload = match (workloads.pop(), workloads.is_empty()) {
        (Some(workload), true) => workload,
        (Some(_), false) => return Err(Unreadable::SeveralContainers),
        (None, _) => return Err(Unreadable::NoContainer),
    };
    let variables = variables(&workload.container, &maps, input)?;
    let words = workload.container.command.iter().flatten().skip(1);
    let words = words.chain(workload.container.args.iter().flatten());
    arguments(words, &variables, input)?;
    configuration(&maps, input)?;
    input.workload = Some(workload);
    Ok(())
}

fn objects(text: &str) -> Result<Vec<Value>, Unreadable> {
    let mut objects = Vec::new();
    for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let value = Value::deserialize(document).map_err(|_telling| Unreadable::Yaml {
            document: index + 1,
        })?;
        match value.get("items").and_then(Value::as_array) {
            Some(items) => objects.extend(items.iter().cloned()),
            None => objects.push(value),
        }
    }
    Ok(objects)
}

/// One for each container of oauth2-proxy in `object`.
fn workloads(object: &Value) -> Vec<Workload> {
    let (metadata, labels, pod) = if let Ok(Object { metadata, spec }) = Object::deserialize(object)
    {
        let template = spec.template;
        let labels = spec.selector.and_then(|selector| selector.match_labels);
        let own = template.metadata.and_then(|metadata| metadata.labels);
        (metadata, labels.or(own), template.spec.unwrap_or_default())
    } else if let Ok(Pod { metadata, spec }) = Pod::deserialize(object) {
        let labels = metadata.labels.clone();
        (metadata, labels, spec)
    } else {
        return vec![];
    };
    let containers = || {
        pod.containers
            .iter()
            .chain(pod.init_containers.iter().flatten())
    };
    let ports: Vec<_> = containers()
        .filter(|container| !is_oauth2_proxy(container))
        .flat_map(|container| container.ports.iter().flatten())
        .map(|port| (port.container_port, port.name.clone()))
        .collect();
    let ours = containers().filter(|container| is_oauth2_proxy(container));
    ours.map(|container| Workload {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        labels: labels.clone().unwrap_or_default(),
        ports: ports.clone(),
        container: container.clone(),
        volumes: pod.volumes.clone().unwrap_or_default(),
    })
    .collect()
}

fn is_oauth2_proxy(container: &Container) -> bool {
    let words = container.command.iter().flatten().chain(&container.image);
    container.name == "oauth2-proxy"
        || words
            .map(|word| word.rsplit('/').next().unwrap_or_default())
            .any(|word| word.starts_with("oauth2-proxy") || word.starts_with("oauth2_proxy"))
}

/// The container's environment; what is a setting goes to `input`, too.
fn variables(
    container: &Container,
    maps: &[ConfigMap],
    input: &mut Input,
) -> Result<BTreeMap<String, Given>, Unreadable> {
    let mut variables = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let reference = from.config_map_ref.as_ref();
        match reference.and_then(|reference| map(maps, &reference.name)) {
            Some(map) => variables.extend(map.data.iter().flatten().map(|(name, value)| {
                (format!("{prefix}{name}"), Given::Text(vec![value.clone()]))
            })),
            None => input.notes.push(
                "envFrom of the container names an object that is not among the files; make sure that it \
                 says nothing about who may enter, or give its settings as a further FILE"
                    .to_owned(),
            ),
        }
    }
    let own = container.env.iter().flatten();
    variables.extend(own.map(|variable| (variable.name.clone(), given(variable, maps))));
    for (name, given) in &variables {
        match (read::in_environment(name), given) {
            (Some(flag), Given::Text(texts)) => {
                let given = read::text(flag, &texts.concat())?;
                input.settings.give(flag, Rank::Environment, given);
            }
            (Some(flag), given) => input.settings.give(flag, Rank::Environment, given.clone()),
            (None, _) => input.notes.extend(read::unread_variable(name)),
        }
    }
    Ok(variables)
}

fn map<'a>(maps: &'a [ConfigMap], name: &str) -> Option<&'a ConfigMap> {
    maps.iter()
        .find(|map| map.metadata.name.as_deref() == Some(name))
}

fn given(variable: &EnvVar, maps: &[ConfigMap]) -> Given {
    let Some(from) = &variable.value_from else {
        return Given::Text(vec![variable.value.clone().unwrap_or_default()]);
    };
    if let Some(secret) = &from.secret_key_ref {
        return Given::Secret {
            name: secret.name.clone(),
            key: secret.key.clone(),
        };
    }
    let from = from.config_map_key_ref.as_ref();
    from.and_then(|from| map(maps, &from.name)?.data.as_ref()?.get(&from.key))
        .map_or(Given::Elsewhere, |text| Given::Text(vec![text.clone()]))
}

/// Flags, with the environment where they say `$(NAME)`.
fn arguments<'a>(
    words: impl Iterator<Item = &'a String>,
    variables: &BTreeMap<String, Given>,
    input: &mut Input,
) -> Result<(), Unreadable> {
    let mut plain: Vec<String> = Vec::new();
    let words: Vec<&String> = words.collect();
    for word in words {
        let reference = word
            .split_once("=$(")
            .and_then(|(flag, name)| Some((flag, name.strip_suffix(')')?)));
        let found = reference.and_then(|(flag, name)| Some((flag, variables.get(name)?)));
        match found {
            None => plain.push(word.clone()),
            Some((flag, Given::Text(texts))) => plain.push(format!("{flag}={}", texts.concat())),
            Some((flag, given)) => {
                let name = flag.trim_start_matches("--");
                let known = super::flags::by_name(name).ok_or_else(|| Unreadable::Unknown {
                    name: name.to_owned(),
                })?;
                input.settings.give(known, Rank::Flag, given.clone());
            }
        }
    }
    read::arguments(&plain, &mut input.settings)
}

/// The configuration file, if it is in one of the `ConfigMap`s.
fn configuration(maps: &[ConfigMap], input: &mut Input) -> Result<(), Unreadable> {
    let Some(Given::Text(path)) = input.settings.get("config") else {
        return Ok(());
    };
    let path = path.concat();
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut data = maps.iter().flat_map(|map| &map.data);
    match data.find_map(|data| data.get(name)) {
        Some(text) => read::file(text, input),
        None => Ok(()),
    }
}

impl Workload {
    /// What is mounted at `path` of oauth2-proxy's container.
    pub(super) fn mounted(&self, path: &str) -> Option<Mounted> {
        let mounts = self.container.volume_mounts.iter().flatten();
        let inside = |mount: &VolumeMount| {
            let rest = path.strip_prefix(mount.mount_path.trim_end_matches('/'))?;
            match (&mount.sub_path, rest.strip_prefix('/')) {
                (Some(key), _) if rest.is_empty() => Some((mount.name.clone(), key.clone())),
                (None, Some(file)) => Some((mount.name.clone(), file.to_owned())),
                _ => None,
            }
        };
        let (volume, file) = mounts.clone().find_map(inside)?;
        let volume = self.volumes.iter().find(|known| known.name == volume)?;
        let key = |items: &Option<Vec<k8s_openapi::api::core::v1::KeyToPath>>| {
            let item = items.iter().flatten().find(|item| item.path == file);
            item.map_or_else(|| file.clone(), |item| item.key.clone())
        };
        match (&volume.config_map, &volume.secret) {
            (Some(map), _) => Some(Mounted::ConfigMap {
                name: map.name.clone(),
                key: key(&map.items),
            }),
            (None, Some(secret)) => Some(Mounted::Secret {
                name: secret.secret_name.clone()?,
                key: key(&secret.items),
            }),
            (None, None) => None,
        }
    }
}
