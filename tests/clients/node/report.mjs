// What a client was answered, as one line of JSON for the test to read.
export async function report(response) {
  console.log(
    JSON.stringify({
      status: response.status,
      headers: Object.fromEntries(response.headers),
      text: await response.text(),
    }),
  );
}
