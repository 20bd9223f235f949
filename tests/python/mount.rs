//! Where an ASGI app is mounted.

use super::{answers, hosted_in};
use crate::harness::programs::need;

/// It answers with what it is told.
const APP: &str = "\
async def app(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 200, 'headers': []})
    await send({'type': 'http.response.body', 'body': scope['root_path'].encode()})
";

#[test]
fn an_asgi_app_is_told_where_it_is_mounted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mounted.py"), APP).unwrap();
    let config = folder.path().join("gunicorn_config.py");
    std::fs::write(&config, "root_path = 'api'\n").unwrap();
    let builder = || {
        let builder = hosted_in("mounted:app", "sys", folder.path());
        builder.map(|builder| builder.set("python.lifespan", "off"))
    };
    let builder_of_key = need!(builder(), "the package").set("python.root_path", "/shop");
    let server = builder_of_key.start();
    answers(&server, "/", 200, "/shop");
    server.shut_down();
    let config = config.to_str().unwrap();
    let builder_of_file = need!(builder(), "the package").set("python.config", config);
    let server = builder_of_file.start();
    answers(&server, "/", 200, "/api");
    server.shut_down();
}
