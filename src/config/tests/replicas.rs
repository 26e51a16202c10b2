//! Databases with replicas.

use super::*;
use crate::topology::{Balancing, Consistency, Reads};

/// What is read of a database with these lines in its section.
fn with(lines: &str) -> Result<Config, String> {
    let text =
        format!("[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"postgresql://app@one/app\"\n{lines}\n");
    Given::default()
        .parse(&text)
        .map_err(|problems| problems.to_string())
}

const REPLICA: &str = "read_replicas = [\"postgresql://app@two/app\"]";

#[test]
fn everything_about_replicas_is_read() {
    let config = with(
        "read_replicas = [\"postgresql://app@two/app\", { url = \"postgresql://app@three/app\", weight = 3 }]
         load_balancing = \"least_connections\"
         reads = \"replica_only\"
         read_consistency = \"none\"
         max_replica_lag = \"2s\"
         health_check_interval = \"3s\"
         lsn_poll_interval = \"40ms\"
         failover_timeout = \"5s\"
         failover_threshold = 6
         read_only_functions = [\"app.lookup*\"]
         write_functions = [\"bump\"]",
    );
    let config = config.unwrap();
    let replicas = config.databases["app"].replicas.as_deref().unwrap();
    let weights: Vec<u32> = replicas.servers.iter().map(|server| server.weight).collect();
    assert_eq!(weights, [1, 3]);
    let rules = replicas.rules;
    assert_eq!(
        (rules.balancing, rules.reads, rules.consistency),
        (Balancing::LeastConnections, Reads::ReplicaOnly, Consistency::None)
    );
    let health = replicas.health;
    assert_eq!(
        [
            health.max_lag,
            health.check_interval,
            health.poll_interval,
            health.failover_timeout
        ],
        [2_000, 3_000, 40, 5_000].map(Duration::from_millis)
    );
    assert_eq!(health.failover_threshold, 6);
    assert_eq!(
        (&replicas.read_only_functions[..], &replicas.write_functions[..]),
        (&["app.lookup*".to_owned()][..], &["bump".to_owned()][..])
    );
}

#[test]
fn mistakes_about_replicas_are_told_with_their_places() {
    for (lines, said) in [
        (
            "reads = \"any\"",
            "\"reads\" is about replicas, and there is no \"read_replicas\"",
        ),
        ("read_replicas = \"postgresql://two\"", "must be a list of URLs"),
        ("read_replicas = [3]", "5:18: "),
        ("read_replicas = [{ weight = 2 }]", "needs a url"),
        (
            "read_replicas = [{ url = \"postgresql://two\", weight = 0 }]",
            "5:55: ",
        ),
        (
            "read_replicas = [{ url = \"postgresql://app@two\", wieght = 2 }]",
            "weight",
        ),
    ] {
        let problems = with(lines).unwrap_err();
        assert!(problems.contains(said), "{lines}: {problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
    for line in [
        "reads = \"some\"",
        "load_balancing = \"fair\"",
        "read_consistency = \"strong\"",
        "max_replica_lag = 3",
        "health_check_interval = \"0\"",
        "lsn_poll_interval = \"0\"",
        "failover_threshold = 0",
        "read_only_functions = \"f\"",
    ] {
        let problems = with(&format!("{REPLICA}\n{line}")).unwrap_err();
        assert!(problems.contains(":6:"), "{line}: {problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
}

#[test]
fn servers_are_asked_how_they_are_by_a_user_of_the_urls() {
    let parse = |url: &str, replicas: &str| {
        let text = format!(
            "[auth]\nmethod = \"trust\"\n[databases.app]\nurl = \"{url}\"\nread_replicas = [{replicas}]\n"
        );
        Given::default()
            .parse(&text)
            .map_err(|problems| problems.to_string())
    };
    let (with_user, without) = ("postgresql://app@one/app", "postgresql://two/app");
    assert!(parse(with_user, &format!("\"{with_user}\"")).is_ok());
    for (url, replicas, said) in [
        (without, format!("\"{with_user}\""), "needs a user in \"url\""),
        (
            with_user,
            format!("\"{with_user}\", \"{without}\""),
            "needs a user in each of its URLs",
        ),
        (without, format!("\"{without}\""), "needs a user in \"url\""),
    ] {
        let problems = parse(url, &replicas).unwrap_err();
        assert!(problems.contains(said), "{problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
    let from_urls = |replica: &str| {
        Given::default().with_sources(|sources| {
            let url = "postgresql://app:secret@one/app";
            Config::from_urls(url, "--url", &[replica.to_owned()], sources)
        })
    };
    assert!(from_urls("postgresql://app:secret@two/app").is_ok());
    let problems = from_urls(without).unwrap_err().to_string();
    assert!(problems.contains("needs a user"), "{problems}");
}
