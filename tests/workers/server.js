// A Node http server on the inherited socket, which ends as Node programs do: close, then wait.
const http = require("http");

const server = http.createServer((request, response) => {
  if (server.stopping) response.setHeader("Connection", "close");
  const seconds = request.url.startsWith("/slow/") ? Number(request.url.split("/")[2]) : 0;
  setTimeout(() => response.end("hello"), seconds * 1000);
});
server.listen({ fd: Number(process.argv[2]) });
process.on("SIGTERM", () => {
  server.stopping = true;
  server.close();
});
