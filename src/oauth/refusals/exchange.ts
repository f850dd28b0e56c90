/** D. What an exchange may give: scope, targets, tasks, delegation, and whatever is used up. */
import type { Reason } from '../refusal.ts'
import type { Words } from './words.ts'

export const EXCHANGE = {
  scope_not_granted: {
    action: 'ask_narrower',
    next: 'ask for less',
    says: 'part of what was asked for is not granted; nothing was issued',
    means:
      'What a token may do is the intersection of what subject, ceiling, stage, task, parent and policy allow. Part of what was asked for was lost at one of them: `missing` names it, `lost` says where, and with what change it would be granted.',
    why: 'Asking for more is refused whole. A token that silently lacks what was asked for fails later, in the middle of the work.',
    agent:
      'Send `narrower` instead of what was sent, or leave `scope` out to get the largest permitted set. If the work needs what is missing, a person must decide: show `lost`.',
    operator:
      '`errand explain <decision_id>` draws the intersection as a table. `least_change` names the file to change; whether it should be changed is for whoever owns the operation.',
    example: '`scope=tickets:read_ticket payments:refund` by an agent whose ceiling lacks refunds',
  },
  bad_scope: {
    action: 'fix_request',
    next: 'ask for values such as tickets:read_ticket, each once, separated by single spaces',
    says: 'a scope is <tool>:<operation> values, each once, separated by single spaces',
    means:
      'The scope holds something else: another separator, a value twice, a name in another case, or more than 200 values.',
    why: 'Nothing is trimmed or lower-cased into a valid scope: what was decided must be what was asked.',
    agent:
      'Join the values with one space. A star is for configuration, not for requests: leave `scope` out to get all that is permitted.',
    example: '`scope=tickets:*`, or `tickets:read_ticket,tickets:add_comment`',
  },
  bad_authorization_details: {
    action: 'fix_request',
    next: 'compare the request with the description of the API (docs/http.md)',
    says: 'authorization_details are not of the documented form',
    means:
      'It is not a JSON list of `{"type":"tool","tool","operations","constraints"?}`, constraints use a keyword outside the closed set, or `scope` was sent as well.',
    why: 'RFC 9396 §5. A constraint that cannot be understood cannot be kept, so it is refused rather than dropped.',
    agent:
      'Send the list as JSON text in one form parameter. Constraints are `type`, `enum`, `minimum`, `maximum`, lengths, `items`, `properties`, `required`.',
    example: 'a constraint with `"pattern":"^a"`',
  },
  audience_denied: {
    action: 'ask_person',
    next: 'name an existing tool within reach of the agent and of its task',
    says: 'this target is not within reach of the caller and its task',
    means:
      "The agent's ceiling holds nothing of that tool, or the subject, the task or the parent leaves nothing of it; or there is no such tool. Which of them is not told where the agent may not know of it.",
    why: 'A token is for one tool, and an agent learns only of tools within its own ceiling.',
    agent:
      "Compare the name or URI with `GET /tools`. A holder's own token is renewed for its own tool only: for another one exchange the user's token, with `task_id`.",
    operator: 'Give the agent at least one operation of the tool in its `ceiling`, and the user rights to it.',
    example: '`audience=payments` by an agent that may only read tickets',
  },
  one_target: {
    action: 'fix_request',
    next: 'send one request for each target',
    says: 'name exactly one target',
    means: '`resource`, `audience` and what is asked for name no tool, or more than one.',
    why: 'A token with two audiences can be used by each of them at the other.',
    agent: 'One exchange for each tool; the same `task_id` holds them together.',
    example: '`scope=tickets:read_ticket crm:read_customer`',
  },
  resource_not_canonical: {
    action: 'fix_request',
    next: 'send the audience URI of the tool, character for character',
    says: 'the resource is not a canonical absolute https URI',
    means: 'It is relative, or has a fragment, user, port 443, dot segment, upper-case host or needless escape.',
    why: 'RFC 8707. An audience is compared as a string; two spellings would be two audiences, or one by accident.',
    agent: 'Copy the audience from `GET /tools`, with its final slash if it has one.',
    example: '`resource=https://Tickets.example.com:443/`',
  },
  parent_expiring: {
    action: 'renew',
    next: 'renew the parent token first, or open a new task',
    says: 'the parent ends too soon for a child',
    means: 'The token or task behind this request has less than two seconds left.',
    why: 'A child never outlives its parent, and a token that ends on its way is of no use.',
    agent: 'Renew your own token before handing over. As a tool: ask the caller to come again with a fresh token.',
    example: 'a hand-over asked for in the last second of a token',
  },
  bad_request_details: {
    action: 'fix_request',
    next: 'compare the request with the description of the API (docs/http.md)',
    says: 'request_details are not of the documented form',
    means: 'A member is missing, unknown, or out of its range; the description says which.',
    why: 'Deadlines and budgets are limits. A limit that is guessed from `"1e3"` or dropped because its name is misspelt is none.',
    agent: 'Send integers as numbers. `purpose`, `environment` and `data_classification` are required.',
    operator: '`tasks.max_deadline_seconds` is the longest deadline that may be asked for.',
    example: '`{"purpose":"…","environment":"prod","data_classification":"internal"}`: it is `production`',
  },
  forged_actor: {
    action: 'sign_in_again',
    next: "present the user's own token",
    says: 'the token names an actor, which its issuer may not say',
    means: "The user's token has an `act` claim, and its issuer is not registered with `may_delegate`.",
    why: "Whoever may write `act` writes who did things, and puts words into other agents' mouths.",
    agent: 'Use the token that the user got by signing in, not one that was exchanged elsewhere.',
    operator: 'Set `may_delegate: true` for an issuer whose word about actors you trust.',
    example: 'a token that another gateway issued to an agent',
  },
  may_act: {
    action: 'ask_parent',
    next: 'let the agent present it that it names, or ask for a hand-over to this agent',
    says: 'this token names another agent',
    means: '`may_act` of the token names another agent, or an agent of another issuer.',
    why: 'RFC 8693 §4.4. A hand-over that is lost on the way is worth nothing to whoever finds it.',
    agent: 'Ask the agent that handed over to name you in `delegate_to`: your `client_id`.',
    operator: 'The giver needs this agent in its `delegates_to`.',
    example: 'a hand-over for `payments`, presented by `research`',
  },
  depth: {
    action: 'ask_parent',
    next: 'hand over from an agent that is nearer to the user',
    says: 'the chain of actors would be longer than allowed',
    means: 'With this agent the chain would have more than `tasks.max_actors` agents (four at most).',
    why: 'Each hop is somebody more who may have misunderstood what the user wanted.',
    agent: 'Let an agent further up hand over directly.',
    operator: '`tasks.max_actors` may be lower than four, never higher.',
    example: 'the fifth agent in a row takes up a hand-over',
  },
  actor_required: {
    action: 'attest_again',
    next: 'send a client assertion, an actor_token, or come over mTLS',
    says: 'no agent is named: authenticate the client, or send an actor_token',
    means: 'There is a `subject_token`, and nothing that proves which agent asks.',
    why: 'Without an actor the answer would be a token that simply is the user.',
    agent: 'Send `client_assertion` and `client_assertion_type`, or evidence as `actor_token`.',
    example: 'the minimal exchange of RFC 8693, with a subject token alone',
  },
  context_mismatch: {
    action: 'fix_request',
    next: 'send parts that belong to the same agent and the same task',
    says: 'two parts of the request contradict each other',
    means:
      'Two agents are named, `task_id` is not the task of the token, or a handed-over task changes environment or classification.',
    why: 'What is combined in one exchange is checked against one another; each part may be good and the combination stolen.',
    agent:
      'Send `client_id` of the agent whose evidence it is. Leave `task_id` out where a token already says the task.',
    example: '`client_id=payments` with an assertion of `research`',
  },
  presenter_not_audience: {
    action: 'ask_parent',
    next: 'send a DPoP proof by the key of the token, or ask for a hand-over to this agent',
    says: 'a token is exchanged by its holder with a proof, or by the agent that is its audience',
    means:
      'The `subject_token` is one of ours, and whoever presents it is neither its holder nor the tool that it is for; or a hand-over was asked for without an own token.',
    why: 'Passing on a token that was meant for somebody else is the confused deputy.',
    agent:
      'To work for another agent, take a hand-over from it. As a tool, present the token that you were called with.',
    operator: 'A tool that exchanges tokens needs `agent:` in its file.',
    example: "an MCP server that passes its caller's token on to another agent",
  },
  task_expired: {
    action: 'open_task',
    next: 'open a new task',
    says: "the task's deadline or heartbeat has passed",
    means: "The task was this agent's and is over: its deadline has passed, or a heartbeat was missed.",
    why: 'A deadline is absolute: renewing tokens does not move it, so nothing lives for ever.',
    agent:
      'Open a new task with a fresh user token. Ask for the time the work needs (`deadline_seconds`), and send heartbeats from a timer, not between steps.',
    operator: '`tasks.default_deadline_seconds` counts where none is asked for.',
    example: 'the second exchange of a task of 15 minutes, after 20',
  },
  task_not_active: {
    action: 'open_task',
    next: 'open a new task',
    says: 'there is no such active task of this agent',
    means:
      "The task was completed, cancelled or revoked; or it is another agent's, another user's, or none. Which of them is not told.",
    why: 'What ended does not come back, and whether a task of others exists is not for this caller.',
    agent: 'Open a new task. If it was ended by a person, ask before starting the same work again.',
    operator: '`errand task show <id>` says who ended it and why.',
    example: '`task_id` of the task that was completed a minute ago',
  },
  subject_disabled: {
    action: 'ask_person',
    next: 'ask security staff',
    says: 'nothing is issued for this user',
    means: 'The user is listed in `disabled_subjects` of its issuer.',
    why: 'Somebody who leaves must have no agents working on.',
    agent: 'Stop, and say so to whoever gave the work.',
    operator: "Take the user off `disabled_subjects` in the issuer's file to allow it again.",
    example: 'a token of carol, who is disabled in the sample company',
  },
  signed_out: {
    action: 'sign_in_again',
    next: 'have the user sign in again at the identity provider, and send the new token',
    says: 'the user signed in before everything of theirs was ended',
    means:
      "The identity provider (or security staff) had everything of this user ended, and the user's token is of a sign-in before that: by its `auth_time`, or its `iat` where it has none.",
    why: 'Whoever took over a session must not open a new task with the token that they still hold. The user may come again, by a new sign-in.',
    agent: 'Stop what was done for this user. Go on only with a token of a new sign-in, in a new task.',
    operator:
      'The record `subject.signed_out` says who ordered it. A token that was only refreshed keeps its old `auth_time`.',
    example: "alice's ID token of the morning, after her session was revoked at noon",
  },
  banned: {
    action: 'ask_person',
    next: 'ask security staff for a re-admission',
    says: 'a ban is in force',
    means:
      'A revocation with mode `ban` matches: the agent, the user, the tool, the release or a key. `rule` is its id.',
    why: 'A cut kills tokens and lets agents ask again; a ban holds until a person lifts it.',
    agent: 'Stop. Nothing that the agent does by itself lifts a ban.',
    operator: '`errand ban list` shows bans in force, `errand readmit <rev_…>` lifts one, and both are recorded.',
    example: 'any exchange of an agent after `errand revoke --agent research`',
  },
  authority_contained: {
    action: 'ask_person',
    next: 'ask for less, or ask security staff what may still be done',
    says: 'what was asked for has been taken from this task',
    means:
      'A revocation with mode `contain` took this tool or operation from the task, or from one above it. `rule` is its id.',
    why: 'A task that went wrong somewhere may be worth finishing without what it did wrong. It never gets it back.',
    agent: 'Go on with what is left: `narrower` names it. For the rest a person opens a new task.',
    operator: '`errand task show <id>` shows what was taken, `GET /revocations/{id}` by whom and why.',
    example: '`payments:refund` in a task after `errand contain --task <id> --take payments:refund`',
  },
  suspended: {
    action: 'ask_person',
    next: 'ask security staff when it is resumed, and then ask for a new token',
    says: 'a suspension is in force',
    means:
      'A revocation with mode `suspend` matches: the agent, the user, the task, the tool or the release. `rule` is its id.',
    why: 'What looks wrong is stopped first and understood afterwards. The task is kept, and goes on when it was nothing.',
    agent:
      'Keep the work where it is and wait for a person. Tokens from before stay dead; the deadline of the task goes on.',
    operator: '`errand ban list` shows suspensions in force, `errand resume <rev_…>` lifts one, and both are recorded.',
    example: 'any exchange of an agent after `errand suspend --agent research`',
  },
  replayed: {
    action: 'ask_parent',
    next: 'get a new one: each is good for one use',
    says: 'this one-use token has been used',
    means: 'The hand-over token was taken up before.',
    why: 'One hand-over opens one task. Two agents with the same hand-over would be one too many.',
    agent:
      'Retry a lost answer with the same `Idempotency-Key`: it gives the same result. Otherwise ask for another hand-over.',
    example: 'a queue that delivers the message with the hand-over twice',
  },
  idempotency_conflict: {
    action: 'fix_request',
    next: 'send a new Idempotency-Key with each new request',
    says: 'this Idempotency-Key was used for another request',
    means: 'The key was used for a request that asked for something else, or its first try is still running.',
    why: 'A key stands for one effect. Evidence and proofs may differ between tries, what is asked may not.',
    agent: 'Make a new random key for each new request, and keep it only for retries of that one.',
    example: 'one constant key for all requests of a process',
  },
  policy_denied: {
    action: 'ask_person',
    next: 'ask for less, or ask whoever keeps the policies',
    says: 'policy does not permit this',
    means:
      'Rights, ceiling and stage would allow it, and policy does not: a `forbid` decided (`rule` names it), no `permit` applied, or the agent may not hand over to that other agent.',
    why: 'Rights say what may be done at all; policies say under which circumstances.',
    agent:
      'Look at `lost`: a policy may want a DPoP proof, another environment, or another time of day. Do not try combinations; each is recorded.',
    operator: '`errand explain <decision_id>` names the policies that determined it and their `@reason`.',
    example: 'an irreversible operation in production by an agent that attests with a plain key',
  },
  grant_not_allowed: {
    action: 'ask_person',
    next: "present a user's token, or have the agent registered as autonomous",
    says: 'the agent may not work for itself',
    means:
      '`client_credentials` (or `POST /tasks` without a subject token) opens a task without a user, and the agent is not registered for that.',
    why: "Without a user nobody's rights bound the agent but its own.",
    agent: 'Present the token of the user for whom the work is done.',
    operator: "`autonomous: true` in the agent's file, and a policy that permits it with `context.autonomous`.",
    example: '`grant_type=client_credentials` by the research agent',
  },
  platform_full: {
    action: 'ask_person',
    next: 'have max_agents of the platform raised, or wait until agents that are gone are forgotten',
    says: 'the platform has as many agents here as it may have',
    means:
      'The agent was never seen before, and its platform already has `max_agents` agents here that came within `forget_after_days`.',
    why: 'A platform makes agents without asking here, and each of them is something to keep in mind and to watch.',
    agent: 'Nothing helps that this agent could do alone: show it to whoever keeps the configuration.',
    operator:
      "`errand` lists the platform's agents (`GET /agents`). Raise `max_agents` in the file of the platform, or lower `forget_after_days`.",
    example: 'the 101st agent of a platform with `max_agents: 100`',
  },
  budget_exhausted: {
    action: 'open_task',
    next: 'open a new task with a larger budget',
    says: 'the budget does not suffice',
    means:
      'The task, or one above it, has no calls, exchanges or cost left of what it was opened with; `rule` says which.',
    why: 'A budget stops an agent in a loop before the bill does.',
    agent: 'Find out what used it up before asking for more. A budget cannot be raised later.',
    operator: '`errand task show <id>` shows what was spent.',
    example: 'the 21st call of a task with `"max_calls":20`',
  },
  revoked: {
    action: 'ask_person',
    next: 'ask security staff',
    inSlot: {
      subject_token: {
        action: 'sign_in_again',
        next: 'present a new token: the user signs in again, or the agent whose token it is renews in time; or ask security staff',
      },
    },
    says: 'what was presented has been revoked',
    means: 'A revocation entry matches the token or one that it descends from. `rule` is its id.',
    why: 'Revocation is by what a token is, not by its text, and what descends from a dead token is dead.',
    agent: 'Get a new token from the start of the chain. If that is refused too, a person decided so.',
    operator: '`errand audit search --type revocation.added` finds the entry: who revoked, what and why.',
    example: 'renewing a token a second after its task was cut',
  },
  stage_no_token: {
    action: 'ask_person',
    next: 'use dry_run, or have the stage of the agent raised',
    says: 'an agent at this stage gets no token',
    means: 'The agent is at stage `suggest` or `draft`.',
    why: 'A new agent shows first what it would do, without being able to do it.',
    agent: 'Send `dry_run=true`: the whole decision, and nothing is issued.',
    operator: "Raise `stage` in the agent's file when its decisions look right in `errand audit search`.",
    example: 'an exchange by an agent at stage `suggest`',
  },
} as const satisfies Partial<Record<Reason, Words>>
