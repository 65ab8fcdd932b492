// Questions to the server.

export class Refused extends Error {
  constructor(told, status) {
    super(told.message || "the server did not answer");
    this.told = told;
    this.status = status;
  }
}

export async function ask(name, parameters = {}, signal = undefined) {
  const given = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") given.set(key, value);
  }
  let answer;
  try {
    answer = await fetch(`/api/${name}?${given}`, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused({
      message: "The server does not answer.",
      next: "Is it still running? fm ui, or fm lineage --open, starts it again.",
    }, 0);
  }
  const told = await answer.json().catch(() => ({ error: { message: "no answer in JSON" } }));
  if (!answer.ok) throw new Refused(told.error || { message: told.refused }, answer.status);
  return told;
}
