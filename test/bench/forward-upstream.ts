// The upstream of the benchmark: takes whatever comes and answers at once, in a process that is not measured.
// Prints its address, and ends with its standard input.

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  maxRequestBodySize: 2 ** 28,
  async fetch(request) {
    const { byteLength } = await request.arrayBuffer();
    if (byteLength === 0) return new Response("a body was expected", { status: 400 });
    // Of Remote-Write 2.0 a receiver says how many samples it has: as many as there may be.
    return new Response(null, {
      status: 204,
      headers: { "X-Prometheus-Remote-Write-Samples-Written": "1000000" },
    });
  },
});
console.log(`http://127.0.0.1:${server.port}`);
for await (const _ of Bun.stdin.stream());
process.exit(0);
