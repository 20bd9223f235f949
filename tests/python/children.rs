//! Calls of an app that start processes, or need much of their thread.

use std::fs;

use super::{answers, hosted_in};
use crate::harness::programs::need;

const APP: &str = "
import concurrent.futures
import multiprocessing
import os
import pickle
import sys
import threading
import time

pool = None

def square(number):
    return number * number

def nothing():
    pass

def pooled():
    global pool
    pool = pool or concurrent.futures.ProcessPoolExecutor(1)
    return pool.submit(square, 3).result(60)

def process():
    # As a line of a log does, it makes the thread known to `threading`.
    threading.current_thread()
    child = multiprocessing.Process(target=nothing)
    child.start()
    child.join(60)
    return child.exitcode

def fork():
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)

def deep():
    sys.setrecursionlimit(10 ** 6)
    nested = []
    for _ in range(14000):
        nested = [nested]
    return pickle.dumps(nested)[-1:]

def app(environ, start):
    said = str(globals()[environ['PATH_INFO'][1:]]()).encode()
    start('200 OK', [['Content-Length', str(len(said))]])
    return [said]
";

#[test]
fn what_a_call_forks_neither_fails_nor_keeps_its_worker() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("main.py"), APP).unwrap();
    for threads in [1, 4] {
        let builder = hosted_in("main:app", "multiprocessing", folder.path());
        let builder = need!(builder, "the package").workers(1);
        let server = builder.set("workers.threads", threads).start();
        answers(&server, "/process", 200, "0");
        answers(&server, "/pooled", 200, "9");
        answers(&server, "/deep", 200, "b'.'");
        answers(&server, "/fork", 200, "None");
        server.shut_down();
        assert_eq!(server.log.count(&["did not exit"]), 0);
    }
}
