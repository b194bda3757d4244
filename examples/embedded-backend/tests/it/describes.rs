//! Liveness, readiness and metadata.

use tensorgate_embedded::Limits;
use tensorgate_wire::proto::model_metadata_response::TensorMetadata;
use tensorgate_wire::proto::{
    ModelMetadataRequest, ModelReadyRequest, ServerLiveRequest, ServerMetadataRequest,
    ServerReadyRequest,
};
use tonic::Code;

use crate::harness::Server;

#[tokio::test]
async fn the_server_and_its_models_say_what_they_are() {
    let mut server = Server::start(Limits::default()).await;
    let client = &mut server.client;
    assert!(
        client
            .server_live(ServerLiveRequest {})
            .await
            .unwrap()
            .into_inner()
            .live
    );
    assert!(
        client
            .server_ready(ServerReadyRequest {})
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    let about = client
        .server_metadata(ServerMetadataRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (about.name.as_str(), about.extensions.len()),
        ("tensorgate-embedded", 0)
    );

    for (name, version, code) in [
        ("digits", "1", None),
        ("digits", "", None),
        ("digits", "2", Some(Code::NotFound)),
        ("nothing", "", Some(Code::NotFound)),
        ("", "", Some(Code::NotFound)),
    ] {
        let (name, version) = (name.to_owned(), version.to_owned());
        let ready = client
            .model_ready(ModelReadyRequest {
                name: name.clone(),
                version: version.clone(),
            })
            .await;
        assert_eq!(
            ready.as_ref().err().map(tonic::Status::code),
            code,
            "{name} {version}"
        );
        assert!(ready.map_or(true, |ready| ready.into_inner().ready));

        let metadata = client
            .model_metadata(ModelMetadataRequest {
                name: name.clone(),
                version: version.clone(),
            })
            .await;
        assert_eq!(
            metadata.as_ref().err().map(tonic::Status::code),
            code,
            "{name} {version}"
        );
        let Ok(metadata) = metadata.map(tonic::Response::into_inner) else {
            continue;
        };
        let tensor = |name: &str, shape: &[i64]| TensorMetadata {
            name: name.into(),
            datatype: "FP32".into(),
            shape: shape.into(),
        };
        assert_eq!(
            (metadata.name.as_str(), metadata.versions.as_slice()),
            ("digits", ["1".to_owned()].as_slice())
        );
        assert_eq!(metadata.inputs, [tensor("image", &[-1, 1, 8, 8])]);
        assert_eq!(metadata.outputs, [tensor("probabilities", &[-1, 10])]);
    }
    server.stop().await;
}
