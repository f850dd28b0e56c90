/** Server-sent events, as much of them as the feed uses: event, id, data. */

export interface ServerSentEvent {
  readonly event: string
  readonly data: string
}

/** Feeds on chunks of text and calls back with each whole event. Throws where one grows beyond `maxLength`. */
export function createEventReader(
  maxLength: number,
  onEvent: (event: ServerSentEvent) => void,
): (chunk: string) => void {
  let rest: string[] = []
  let restLength = 0
  let event = ''
  let data: string[] = []
  let dataLength = 0

  function line(text: string): void {
    if (text === '') {
      if (data.length > 0) onEvent({ event: event || 'message', data: data.join('\n') })
      event = ''
      data = []
      dataLength = 0
      return
    }
    const colon = text.indexOf(':')
    if (colon === 0) return // a comment
    const field = colon < 0 ? text : text.slice(0, colon)
    const value = colon < 0 ? '' : text.slice(text[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'event') event = value
    else if (field === 'data') {
      dataLength += value.length
      if (dataLength > maxLength) throw new RangeError('an event is too long')
      data.push(value)
    }
  }

  return (chunk) => {
    let start = 0
    for (let end = chunk.indexOf('\n'); end >= 0; end = chunk.indexOf('\n', start)) {
      rest.push(chunk.slice(start, end))
      const text = rest.join('')
      rest = []
      restLength = 0
      line(text.endsWith('\r') ? text.slice(0, -1) : text)
      start = end + 1
    }
    if (start < chunk.length) {
      rest.push(chunk.slice(start))
      restLength += chunk.length - start
      if (restLength > maxLength) throw new RangeError('a line is too long')
    }
  }
}
