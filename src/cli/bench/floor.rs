//! The floor: what the HTTP framework alone does on this machine in the same seconds. A bare
//! handler that reads the same JSON bodies and answers JSON of the same size.

use crate::cli::error::{CliError, Result};
use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, rt, web};
use std::net::SocketAddr;
use std::sync::mpsc;

pub struct Floor {
    pub address: SocketAddr,
    handle: ServerHandle,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Starts it on a free loopback port; every answer is `answer`.
pub fn start(answer: String) -> Result<Floor> {
    serve(move || web::to(handler), answer)
}

/// Takes whatever is posted, and says so.
pub fn swallow() -> Result<Floor> {
    serve(|| web::to(|_: web::Bytes| async { HttpResponse::Ok().finish() }), String::new())
}

fn serve(route: impl Fn() -> actix_web::Route + Clone + Send + 'static, answer: String) -> Result<Floor> {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        rt::System::new().block_on(async move {
            let answer = web::Bytes::from(answer);
            let route = route.clone();
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(web::Data::new(answer.clone()))
                    .app_data(web::PayloadConfig::new(16 << 20))
                    .default_service(route())
            });
            match server.disable_signals().bind(("127.0.0.1", 0)) {
                Ok(server) => {
                    let address = server.addrs()[0];
                    let server = server.run();
                    let _ = tell.send(Ok((address, server.handle())));
                    let _ = server.await;
                }
                Err(e) => {
                    let _ = tell.send(Err(e.to_string()));
                }
            }
        });
    });
    match told.recv() {
        Ok(Ok((address, handle))) => Ok(Floor { address, handle, thread: Some(thread) }),
        Ok(Err(e)) => Err(CliError::new(format!("cannot start the bare server: {e}"))),
        Err(_) => Err(CliError::new("the bare server did not start")),
    }
}

async fn handler(body: web::Bytes, answer: web::Data<web::Bytes>) -> HttpResponse {
    for line in body.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        if serde_json::from_slice::<serde_json::Value>(line).is_err() {
            return HttpResponse::BadRequest().finish();
        }
    }
    HttpResponse::Ok().content_type("application/json").body(answer.get_ref().clone())
}

impl Drop for Floor {
    fn drop(&mut self) {
        let handle = self.handle.clone();
        drop(handle.stop(false));
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}
