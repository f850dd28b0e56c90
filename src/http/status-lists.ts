/** Token Status Lists (draft-ietf-oauth-status-list): for verifiers that do not follow the feed. */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { refuse } from '../oauth/refusal.ts'
import { TYP } from '../oauth/words.ts'
import { type SignedList, TTL_SECONDS } from '../revoke/status-lists.ts'
import { acceptanceOf } from './accepts.ts'
import { refused } from './refused.ts'
import type { Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

export const STATUS_LISTS = '/status-lists'
const TYPE = `application/${TYP.statusList}`
/** §8.1: scripts of web pages may read them too. */
const ANY_ORIGIN = { 'Access-Control-Allow-Origin': '*' }
/** What was is signed once and stays. */
const PAST_SECONDS = 300
const UNIX_SECONDS = /^\d{1,10}$/

const listRoute: Route = {
  method: 'GET',
  path: `${STATUS_LISTS}/:id`,
  access: 'public',
  tag: 'Status lists',
  summary: 'A signed list of which tokens are revoked, by the index in their `status` (draft-ietf-oauth-status-list)',
  query: { time: 'As it was at this time, Unix seconds, within the last hour' },
  answers: {
    200: { description: 'A compact JWS (`statuslist+jwt`)', contentType: TYPE },
    304: { description: 'The copy that `If-None-Match` names is the newest' },
    ...errorAnswers(400, 404, 406, 429, 503),
  },
  async handle(call) {
    const { deps, c } = call
    const time = c.req.query('time')
    if (time !== undefined && !UNIX_SECONDS.test(time))
      return refused(call, refuse('bad_param', 'request', { detail: 'time is a number of Unix seconds' }).refusal)
    if (acceptanceOf(c.req.header('accept'), TYPE).quality === 0)
      return refused(call, refuse('not_acceptable', 'request', { detail: `status lists are ${TYPE}` }).refusal)
    const id = c.req.param('id') ?? ''
    const found = await (time === undefined ? deps.statusLists.current(id) : deps.statusLists.at(id, Number(time)))
    // §8.4: a time of which nothing is kept is 404 as well.
    if (!found) return refused(call, refuse('not_found', 'request').refusal)
    const age = time === undefined ? Math.max(0, found.iat + TTL_SECONDS - deps.now()) : PAST_SECONDS
    const etag = etagOf(found)
    const headers = { ...ANY_ORIGIN, 'Cache-Control': `public, max-age=${age}`, ETag: etag, Vary: 'Accept' }
    if (c.req.header('if-none-match') === etag) return new Response(null, { status: 304, headers })
    return new Response(found.token, { headers: { ...headers, 'Content-Type': TYPE } })
  },
}

const etagOf = ({ token }: SignedList): string => `"${createHash('sha256').update(token).digest('base64url')}"`

const aggregationRoute: Route = {
  method: 'GET',
  path: STATUS_LISTS,
  access: 'public',
  tag: 'Status lists',
  summary: 'Where the status lists are that there are',
  answers: {
    200: { description: 'URIs of lists', schema: z.object({ status_lists: z.array(z.string()) }) },
    ...errorAnswers(429, 503),
  },
  async handle({ deps }) {
    const headers = { ...ANY_ORIGIN, 'Cache-Control': `public, max-age=${TTL_SECONDS}` }
    return Response.json({ status_lists: await deps.statusLists.uris() }, { headers })
  },
}

export const statusListRoutes: readonly Route[] = [aggregationRoute, listRoute]
