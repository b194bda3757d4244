//! The version that the gate picks is the one that the host picks, calls and logs.

use std::collections::BTreeMap;

use serde_json::json;
use tensorgate_policy::RequestHash;

use crate::composition::{counted, infer_as, with_versions};
use crate::support::backend::{Act, Backend};
use crate::support::start;

#[tokio::test]
async fn a_request_goes_to_the_version_that_its_id_picks() {
    let backend = Backend::start(Act::Answer);
    let versions = json!({"6": {"weight": 1}, "7": {"weight": 1}});
    let running = start(with_versions(&backend, versions)).await;
    running.ready().await;
    let mut shares = BTreeMap::<String, u64>::new();
    for number in 0..24 {
        let (id, answer) = infer_as(&running.gate, number).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let picked = RequestHash::from_request_id(&id)
            .with("vec")
            .pick([1, 1].into_iter());
        let expected = ["6", "7"][picked.unwrap()];
        let sent = backend.seen.last.lock().unwrap().clone().unwrap().0;
        assert_eq!(sent.model_version, expected);
        assert_eq!(answer.json()["model_version"], expected);
        *shares.entry(expected.to_owned()).or_default() += 1;
    }
    assert_eq!(shares.len(), 2, "{shares:?}");
    let metrics = running.metrics();
    for (version, share) in &shares {
        let series = format!(
            "tensorgate_host_inferences_total{{model=\"vec\",version=\"{version}\",verdict=\"allow\"}}"
        );
        assert_eq!(counted(&metrics, &series), *share, "{metrics}");
        let lines = running.audited();
        let told = lines.iter().filter(|line| line["version"] == **version);
        assert_eq!(u64::try_from(told.count()).unwrap(), *share);
    }
    running.stop().await;
}
