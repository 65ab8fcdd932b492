// Questions to the server and answers for it. A token that is not right any more is fetched again.

export class Refused extends Error {
  constructor(told, status) {
    super(told.message || "the server did not answer");
    this.told = told;
    this.status = status;
  }
}

export class Away extends Error {}

let token = "";

async function send(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Away("The server does not answer.");
  }
  const told = await answer.json().catch(() => ({ error: { message: "no answer in JSON" } }));
  if (!answer.ok) throw new Refused(told.error || { message: told.refused }, answer.status);
  if (told.token) token = told.token;
  return told;
}

export function ask(name, given) {
  const wanted = new URLSearchParams();
  for (const [key, value] of Object.entries(given)) if (value) wanted.set(key, value);
  return send(`/api/${name}?${wanted}`);
}

export async function tell(name, given) {
  const post = () => send(`/api/${name}`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-fm-token": token },
    body: JSON.stringify(given),
  });
  try {
    return await post();
  } catch (error) {
    if (error.status !== 401) throw error;
    await ask("session", {}); // the server was started again since
    return post();
  }
}
