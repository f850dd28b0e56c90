/** `GET /releases`: what is registered, and which of it holds a component that turned bad. */
import { z } from 'zod'
import { namesComponent } from '../attest/release-manifest.ts'
import { refuse } from '../oauth/refusal.ts'
import { refused } from './refused.ts'
import type { Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const releaseSchema = z
  .looseObject({
    release: z.string().describe('Its id: in tokens, and the dimension `release` of revocations'),
    agent: z.string(),
    version: z.string(),
    signer: z.string().describe('kid of the release signer'),
    signed_at: z.number().int(),
    components: z.array(z.string()).describe('Those that the query names').optional(),
  })
  .meta({ id: 'Release' })

export const componentText = z.string().regex(/^[\x21-\x7e]{1,400}$/)

export const releasesRoute: Route = {
  method: 'GET',
  path: '/releases',
  access: ['admin'],
  tag: 'Administration',
  summary: 'Registered releases of agents: all, of one agent, or those with a component',
  query: { agent: 'client_id', component: 'name, name@version, or package URL' },
  answers: {
    200: { description: 'Releases', schema: z.object({ releases: z.array(releaseSchema) }) },
    ...errorAnswers(400, 401, 403, 404, 429, 503),
  },
  handle(call) {
    const { agent, component } = call.c.req.query()
    if (component !== undefined && !componentText.safeParse(component).success) {
      return refused(
        call,
        refuse('bad_param', 'request', { proven: true, detail: 'component is a name, name@version or a package URL' })
          .refusal,
      )
    }
    const releases = call.deps
      .snapshot()
      .agents.all.filter(({ clientId }) => agent === undefined || clientId === agent)
      .flatMap(({ release }) => [...(release?.registered.values() ?? [])])
      .flatMap(({ id, manifest, signer, signedAt, builder, file }) => {
        const components =
          component === undefined ? [] : manifest.components.filter((each) => namesComponent(each, component))
        if (component !== undefined && components.length === 0) return []
        return {
          release: id,
          agent: manifest.agent,
          version: manifest.version,
          ...(manifest.image === undefined ? {} : { image: manifest.image }),
          ...(manifest.model === undefined ? {} : { model: manifest.model }),
          ...(manifest.policy_version === undefined ? {} : { policy_version: manifest.policy_version }),
          tools: manifest.tools.map(({ name, digest }) => ({ name, digest })),
          skills: manifest.skills,
          ...(component === undefined ? { component_count: manifest.components.length } : { components }),
          signer,
          signed_at: signedAt,
          ...(builder === undefined ? {} : { builder }),
          file,
        }
      })
    return Response.json({ releases })
  },
}
