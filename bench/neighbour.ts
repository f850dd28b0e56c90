/**
 * Floods a service with one request, again and again: a process of its own, so that sending it delays nobody else's load.
 *
 *     node --import tsx bench/neighbour.ts <port> <connections> <per second> <request, base64>
 */
import { connect, type Socket } from 'node:net'

const [port, connections, rate] = process.argv.slice(2, 5).map(Number) as [number, number, number]
const request = Buffer.from(process.argv[5]!, 'base64')
const idle: Socket[] = []
await Promise.all(
  Array.from(
    { length: connections },
    () =>
      new Promise<void>((resolve, reject) => {
        const socket = connect({ port, host: '127.0.0.1', noDelay: true }, resolve)
        idle.push(socket)
        // An answer fits in one packet here.
        socket.on('data', () => void idle.push(socket))
        socket.on('error', reject)
      }),
  ),
)
console.log('connected')
const began = performance.now()
let sent = 0
setInterval(() => {
  for (const due = ((performance.now() - began) * rate) / 1000; sent < due && idle.length > 0; sent++)
    idle.pop()!.write(request)
}, 1)
