// Users of Headrace for k6: chat, streams, conversations and jobs, as loadtest/mix.json says.
//
// `make load TOOL=k6` runs it; so does `k6 run loadtest/chat.js`. plan.py reads the same file and
// variables by the same rules. k6 hands over an answer only once it is whole, so of a stream it knows
// when its first byte came, which Headrace sends with the first token, and when its last did: `token`
// is the mean of the time between them. Locust sees each token arrive.

import exec from 'k6/execution';
import http from 'k6/http';
import { sleep } from 'k6';
import { Rate, Trend } from 'k6/metrics';

const DEFAULT_URL = 'http://127.0.0.1:8000';
const mix = JSON.parse(open(__ENV.LOAD_MIX || './mix.json'));
const profileName = __ENV.LOAD_PROFILE || 'load';
const profile = mix.profiles[profileName];
if (!profile) {
  throw new Error(`LOAD_PROFILE is "${profileName}"; there are ${Object.keys(mix.profiles)}`);
}
const isRemote = checkUrl(__ENV.LOAD_URL || DEFAULT_URL);
const url = (__ENV.LOAD_URL || DEFAULT_URL).replace(/\/$/, '');
if (!__ENV.LOAD_KEY) {
  throw new Error('LOAD_KEY is empty; it is the API key that the requests are sent with');
}
const model = __ENV.LOAD_MODEL || 'assistant';
const streamModel = __ENV.LOAD_STREAM_MODEL || model;
const jobChain = __ENV.LOAD_JOB_CHAIN || model;
const [thinkMin, thinkMax] = profile.think_seconds || mix.think_seconds;

const errors = new Rate('errors');
// A server that refuses everything must not fill the terminal.
const MOST_COMPLAINTS_OF_A_USER = 3;
let complaints = 0;
// By the names of the thresholds in mix.json.
const times = {
  chat: new Trend('chat', true),
  'first token': new Trend('first_token', true),
  token: new Trend('token', true),
  'whole stream': new Trend('whole_stream', true),
  message: new Trend('message', true),
  job: new Trend('job', true),
};

export const options = {
  scenarios: {
    [profileName]: {
      executor: 'ramping-vus',
      startVUs: 1,
      stages: stages(),
      gracefulRampDown: '30s',
      gracefulStop: '30s',
    },
  },
  thresholds: thresholds(),
  // A redirect must not lead elsewhere.
  maxRedirects: 0,
  summaryTrendStats: ['count', 'avg', 'med', 'p(95)', 'p(99)', 'max'],
};

// --- The plan -----------------------------------------------------------------------------------
function checkUrl(text) {
  const match = /^https?:\/\/(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+)(:\d+)?\/?$/.exec(text);
  if (!match) {
    throw new Error(`LOAD_URL is "${text}"; it must be like ${DEFAULT_URL}`);
  }
  const host = match[1];
  if (host === 'localhost' || host === '[::1]' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host)) {
    return false;
  }
  if (__ENV.LOAD_ALLOW_REMOTE !== '1') {
    throw new Error(
      `${host} is not this machine. Load may only be sent to what is yours to load;` +
        ' LOAD_ALLOW_REMOTE=1 says that it is'
    );
  }
  return true;
}

function number(name, otherwise, minimum) {
  const value = __ENV[name] ? Number(__ENV[name]) : otherwise;
  if (!(value >= minimum && value < Infinity)) {
    throw new Error(`${name} is "${__ENV[name]}"; it must be a number of ${minimum} or more`);
  }
  return value;
}

function bound(what) {
  return number(`LOAD_MAX_${what.toUpperCase()}`, isRemote ? mix.remote[what] : 0, 0);
}

function stages() {
  const peak = Math.max(...profile.stages.map((stage) => stage.users));
  const factor = number('LOAD_USERS', peak, 0) / peak || 1;
  const scale = number('LOAD_TIME_SCALE', 1, 0.001);
  const found = profile.stages.map((stage) => ({
    seconds: stage.seconds * scale,
    users: Math.round(stage.users * factor),
  }));
  const totals = {
    seconds: found.reduce((sum, stage) => sum + stage.seconds, 0),
    users: Math.max(...found.map((stage) => stage.users)),
  };
  for (const [what, value] of Object.entries(totals)) {
    const most = bound(what);
    if (most && value > most) {
      throw new Error(
        `${value} ${what} are more than ${most}; LOAD_MAX_${what.toUpperCase()} allows more`
      );
    }
  }
  return found.map((stage) => ({
    duration: `${Math.round(stage.seconds * 1000)}ms`,
    target: stage.users,
  }));
}

function thresholds() {
  const found = {
    errors: [`rate<=${mix.thresholds.error_rate}`],
    http_reqs: [{ threshold: 'count>0' }],
  };
  const most = bound('requests');
  if (most) {
    found.http_reqs.push({ threshold: `count<${most}`, abortOnFail: true });
  }
  for (const [name, milliseconds] of Object.entries(mix.thresholds.p95_ms)) {
    found[name.replace(/ /g, '_')] = [`p(95)<=${milliseconds}`];
  }
  return found;
}

// --- What users do ------------------------------------------------------------------------------
const actions = { chat, stream, conversation, job };
const weightOfAll = Object.values(mix.weights).reduce((sum, weight) => sum + weight, 0);

export default function () {
  let left = Math.random() * weightOfAll;
  const kinds = Object.keys(mix.weights);
  const kind = kinds.find((name) => (left -= mix.weights[name]) < 0) || kinds[0];
  actions[kind]();
  think();
}

function think() {
  sleep(thinkMin + Math.random() * (thinkMax - thinkMin));
}

// One of the file's texts, or one that was never sent before.
function prompt() {
  const text = mix.prompts[Math.floor(Math.random() * mix.prompts.length)];
  if (Math.random() < mix.repeated_share) {
    return text;
  }
  const random = Math.random().toString(36).slice(2);
  return `${text} (${exec.vu.idInTest}-${exec.vu.iterationInInstance}-${random})`;
}

function chat() {
  const response = call('/v1/chat/completions', {
    body: { model, messages: [{ role: 'user', content: prompt() }] },
    status: 200,
    name: 'POST /v1/chat/completions',
    check: (answer) => answer.choices[0].message.content,
  });
  if (response) {
    times.chat.add(response.timings.duration);
  }
}

function stream() {
  let tokens = 0;
  const response = call('/v1/chat/completions', {
    body: { model: streamModel, messages: [{ role: 'user', content: prompt() }], stream: true },
    status: 200,
    name: 'POST /v1/chat/completions (stream)',
    read: (text) => {
      tokens = countTokens(text);
    },
  });
  if (!response) {
    return;
  }
  times['first token'].add(response.timings.waiting);
  times['whole stream'].add(response.timings.duration);
  if (tokens > 1) {
    times.token.add(response.timings.receiving / (tokens - 1));
  }
}

// Returns how many pieces of a stream have content; throws unless it is whole and has some.
function countTokens(text) {
  const data = text
    .split('\n')
    .filter((line) => line.startsWith('data: '))
    .map((line) => line.slice(6).trim());
  const isWhole = data[data.length - 1] === '[DONE]';
  const pieces = data.filter((line) => line !== '[DONE]').map((line) => JSON.parse(line));
  const failure = pieces.find((piece) => piece.error);
  if (failure) {
    throw new Error(failure.error.code || 'error');
  }
  if (!isWhole) {
    throw new Error('the stream broke off');
  }
  const tokens = pieces.filter((piece) => piece.choices.some((choice) => choice.delta.content));
  if (!tokens.length) {
    throw new Error('a stream without a token');
  }
  return tokens.length;
}

function conversation() {
  const made = call('/v1/conversations', {
    body: { chain: model },
    status: 201,
    name: 'POST /v1/conversations',
  });
  if (!made) {
    return;
  }
  const path = `/v1/conversations/${made.json('id')}/messages`;
  let answer;
  for (let number = 0; number < mix.conversation.messages; number += 1) {
    if (number) {
      think();
    }
    answer = call(path, {
      body: { content: prompt() },
      status: 201,
      name: 'POST /v1/conversations/{id}/messages',
    });
    if (!answer) {
      return;
    }
    times.message.add(answer.timings.duration);
  }
  call(path, {
    status: 200,
    name: 'GET /v1/conversations/{id}/messages',
    check: (listed) => listed.data.some((message) => message.id === answer.json('id')),
  });
}

function job() {
  const input = JSON.stringify(mix.job.input).replace(/"PROMPT"/g, () => JSON.stringify(prompt()));
  const began = Date.now();
  let response = call('/v1/jobs', {
    body: { chain: jobChain, input: JSON.parse(input) },
    status: 202,
    name: 'POST /v1/jobs',
  });
  while (response && ['queued', 'running'].includes(response.json('status'))) {
    if (Date.now() - began > mix.job.timeout_seconds * 1000) {
      break;
    }
    sleep(mix.job.poll_seconds);
    response = call(`/v1/jobs/${response.json('id')}`, { status: 200, name: 'GET /v1/jobs/{id}' });
  }
  if (response) {
    times.job.add(Date.now() - began);
    errors.add(response.json('status') !== 'succeeded');
  }
}

// Returns the response, or null when it is not the expected one, which is then counted.
function call(path, { body, status, name, read, check }) {
  const parameters = {
    headers: { Authorization: `Bearer ${__ENV.LOAD_KEY}`, 'Content-Type': 'application/json' },
    tags: { name },
    timeout: '120s',
  };
  const response = body
    ? http.post(url + path, JSON.stringify(body), parameters)
    : http.get(url + path, parameters);
  let wrong = response.status === status ? '' : `status ${response.status} ${response.error}`;
  if (!wrong) {
    try {
      const answer = read ? read(response.body) : response.json();
      if (check && !check(answer)) {
        wrong = 'a wrong answer';
      }
    } catch (error) {
      wrong = String(error);
    }
  }
  errors.add(Boolean(wrong));
  if (wrong) {
    complaints += 1;
    if (complaints <= MOST_COMPLAINTS_OF_A_USER) {
      console.error(`${name}: ${wrong}`);
    }
    return null;
  }
  return response;
}
