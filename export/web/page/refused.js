// What a user can mend: its message is shown as it is.
export class Refused extends Error {}
